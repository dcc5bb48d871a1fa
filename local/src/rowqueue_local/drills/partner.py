"""Faults of the partner, and the effect of each on the entry, on other entries and on the task."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rowqueue.contract import ExitCode
from rowqueue_local import authority, partner
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.servers import serving
from rowqueue_local.drills.stage import Stage, staged, wait_until
from rowqueue_local.stack import StackError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aiohttp import web

    from rowqueue_local.authority import Certificates
    from rowqueue_local.drills import Tell

    Server = tuple[web.Application, ssl.SSLContext]

NEIGHBOURS = 4
_HOST = "127.0.0.1"
_SETTINGS = {
    "SERVICE_TIMEOUT_SECONDS": "2",
    "RETRY_BACKOFF_SECONDS": "3600",  # so that an entry in back-off is still pending when the drill looks
    "RETRY_BACKOFF_CAP_SECONDS": "3600",
    "FLUSH_SECONDS": "0.2",
}


_STOPPED = {"SERVICE_TIMEOUT_SECONDS": "30", "STOP_GRACE_SECONDS": "0.2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEffect:
    """The effect of a fault.

    Attributes:
        entry: the status of the entry, or of all entries with the fault.
        neighbours: status of the other entries.
        counted: counted attempts of all entries.
        code: the task's exit code.
        hold: whether a hold was placed.
    """

    entry: str
    neighbours: str
    counted: int
    code: int = ExitCode.DONE
    hold: bool = False


_COMPLETES = FaultEffect(entry="completed", neighbours="completed", counted=0)
_RETRIES = FaultEffect(entry="pending", neighbours="completed", counted=1)
_FAILS = FaultEffect(entry="failed", neighbours="completed", counted=1)
_ALL_RETRY = FaultEffect(entry="pending", neighbours="pending", counted=1 + NEIGHBOURS, code=ExitCode.NO_ANSWER)
_STOPS = FaultEffect(entry="pending", neighbours="pending", counted=0, code=ExitCode.CREDENTIALS_STOP, hold=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerFault:
    """A fault of the partner.

    Attributes:
        name: for the table.
        expected: the promised effect.
        behaviours: what each of its entries asks of the partner; their neighbours are answered 200.
        everyone: whether the neighbours ask for it too.
        stopped: whether the task is stopped once the neighbours are completed.
        server: makes another partner than the stack's.
    """

    name: str
    expected: FaultEffect
    behaviours: tuple[dict[str, Any], ...] = ({},)
    everyone: bool = False
    stopped: bool = False
    server: Callable[[Certificates, Path], Server] | None = None


def _wrong_host(ours: Certificates, folder: Path) -> Server:
    certificate = authority.issue_server(ours, folder / "wrong-host.pem", host="api.example.com")
    return partner.application(), partner.server_context(certificate=str(certificate), ca=str(ours.ca))


def _expired(ours: Certificates, folder: Path) -> Server:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_server(ours, folder / "expired.pem", host=_HOST, expires=yesterday)
    return partner.application(), partner.server_context(certificate=str(certificate), ca=str(ours.ca))


def _foreign_ca(ours: Certificates, folder: Path) -> Server:
    theirs = authority.issue(folder / "foreign", host=_HOST)
    return partner.application(), partner.server_context(certificate=str(theirs.server), ca=str(ours.ca))


def _refuses_our_certificate(tls: str) -> Callable[[Certificates, Path], Server]:
    def make(ours: Certificates, folder: Path) -> Server:
        theirs = authority.issue(folder / f"other-{tls}", host=_HOST)
        context = partner.server_context(certificate=str(ours.server), ca=str(theirs.ca), tls=tls)
        return partner.application(), context

    return make


def _answers_with_a_page(ours: Certificates, _folder: Path) -> Server:
    return partner.web_server_in_front(certificate=str(ours.server))


FAULTS = (
    PartnerFault(
        name="answers 200 with a body that is cut off, trickles, has 10 MB or is bad gzip",
        behaviours=tuple({"body": body} for body in ("cut", "trickle", "large", "gzip")),
        expected=_COMPLETES,
    ),
    PartnerFault(
        name=f"answers 2xx with {', '.join(partner.RAW_ANSWERS)}",
        behaviours=tuple({"raw": what} for what in partner.RAW_ANSWERS),
        expected=_COMPLETES,
    ),
    PartnerFault(
        name="trickles a 200 while the task is stopped",
        behaviours=({"body": "trickle"},),
        stopped=True,
        expected=_COMPLETES,
    ),
    PartnerFault(
        name=f"after successes hangs up, or sends in place of a TLS record {' or '.join(partner.BROKEN_TLS)}",
        behaviours=(
            {"hang_up": True, "delay_ms": 400},
            *({"broken_tls": what, "delay_ms": 400} for what in partner.BROKEN_TLS),
        ),
        expected=replace(_RETRIES, counted=1 + len(partner.BROKEN_TLS)),
    ),
    PartnerFault(
        name="resets in the middle of a 500, answers 429, answers 503, does not answer in time, or hangs up",
        behaviours=(
            {"body": "cut", "status": 500},
            {"status": 429, "retry_after": 2},
            {"status": 503},
            {"delay_ms": 4000},
            {"hang_up": True},
        ),
        expected=replace(_RETRIES, counted=5),
    ),
    PartnerFault(
        name="answers some entries 401, 302, 400, a 400 that quotes nginx's page about certificates, or that page",
        behaviours=(
            {"status": 401},
            {"status": 302, "location": "https://127.0.0.1:1/"},
            {"status": 400},
            {"status": 400, "body": "echo"},
            {"status": 400, "body": "page"},
        ),
        expected=replace(_FAILS, counted=5),
    ),
    PartnerFault(name="answers every entry 401", behaviours=({"status": 401},), everyone=True, expected=_STOPS),
    PartnerFault(name="hangs up on every entry", behaviours=({"hang_up": True},), everyone=True, expected=_STOPS),
    PartnerFault(name="has a wrong host name", server=_wrong_host, expected=_STOPS),
    PartnerFault(name="has an expired certificate", server=_expired, expected=_STOPS),
    PartnerFault(name="has a certificate of a foreign CA", server=_foreign_ca, expected=_STOPS),
    PartnerFault(name="refuses our certificate, TLS 1.2", server=_refuses_our_certificate("1.2"), expected=_STOPS),
    PartnerFault(name="refuses our certificate, TLS 1.3", server=_refuses_our_certificate("1.3"), expected=_STOPS),
    PartnerFault(name="refuses our certificate with nginx's page", server=_answers_with_a_page, expected=_STOPS),
)
_REFUSED = PartnerFault(name="refuses the connection", expected=_ALL_RETRY)


def _play(state: Path, tell: Tell) -> Verdict:
    rows = [("the partner ...", "entry", f"its {NEIGHBOURS} neighbours", "counted", "exit", "hold", "as promised")]
    unexpected, ways, kept = [], 0, 0
    with staged(state) as stage:
        for fault in (_REFUSED, *FAULTS):
            with _url(stage, fault, state / "tmp" / "misbehaving") as url:
                effect = _effect(stage, fault, url)
            tell(f"{fault.name}: entry {effect.entry}, neighbours {effect.neighbours}, exit code {effect.code}")
            as_promised = effect == fault.expected
            if not as_promised:
                unexpected.append(fault.name)
            ways += len(fault.behaviours)
            kept += len(fault.behaviours) * as_promised
            rows.append(
                (
                    fault.name,
                    effect.entry,
                    effect.neighbours,
                    str(effect.counted),
                    str(effect.code),
                    "yes" if effect.hold else "no",
                    "yes" if as_promised else f"NO: {fault.expected}",
                )
            )
    figures = {"faults": ways, "as_promised": kept, "unexpected": unexpected}
    compressed = {"SERVICE_TIMEOUT_SECONDS": "2 instead of 30"}
    return Verdict(kept=not unexpected, figures=figures, compressed=compressed, table=rows)


@contextlib.contextmanager
def _url(stage: Stage, fault: PartnerFault, folder: Path) -> Iterator[str]:
    """The URL of the faulty partner."""
    if fault is _REFUSED:
        with (
            socket.socket() as closed
        ):  # bound but not listening: connections are refused, and no other process gets the port
            closed.bind((_HOST, 0))
            yield f"https://{_HOST}:{closed.getsockname()[1]}/process"
    elif fault.server is None:
        yield stage.stack.partner
    else:
        with serving(*fault.server(stage.stack.certificates, folder)) as port:
            yield f"https://{_HOST}:{port}/process"


def _effect(stage: Stage, fault: PartnerFault, url: str) -> FaultEffect:
    stage.empty()
    # The neighbours are answered late, so that the order of the answers does not decide what happens to the entries.
    neighbour = fault.behaviours[0] if fault.everyone else {"delay_ms": 50}
    stage.insert([*fault.behaviours, *[neighbour] * NEIGHBOURS])
    code = _end_of_run(stage, fault, _SETTINGS | {"EXTERNAL_SERVICE_URL": url})
    statuses = [status for (status,) in stage.sql("SELECT status FROM PROCESSING_QUEUE ORDER BY id")]
    entries, neighbours = statuses[:-NEIGHBOURS], statuses[-NEIGHBOURS:]
    ((counted,),) = stage.sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE")
    ((holds,),) = stage.sql("SELECT COUNT(*) FROM PROCESSING_HOLDS")
    return FaultEffect(
        entry=", ".join(sorted(set(entries))),
        neighbours=", ".join(sorted(set(neighbours))),
        counted=int(counted),
        code=code,
        hold=holds > 0,
    )


def _end_of_run(stage: Stage, fault: PartnerFault, settings: dict[str, str]) -> int:
    """Run a processor, and stop it if the fault asks for it; returns its exit code."""
    if not fault.stopped:
        return stage.run(settings)[1]
    with stage.processor(settings | _STOPPED) as run:
        if not wait_until(lambda: stage.counts().get("completed") == NEIGHBOURS, seconds=30):
            raise StackError(f"the neighbours were not completed: {run.error()}")
        run.process.terminate()
        return run.process.wait(30)


DRILL = Drill(
    name="partner",
    promise="No fault of the partner harms other entries or wastes attempts, and each leaves a reason.",
    play=_play,
)
