"""A partner that misbehaves in every way we know of: what each does to the entry, to its neighbours and to the task."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from rowqueue_local import authority, partner
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.servers import serving
from rowqueue_local.drills.stage import Stage, staged

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
    "RETRY_BACKOFF_SECONDS": "3600",  # what backs off is still there to be looked at
    "RETRY_BACKOFF_CAP_SECONDS": "3600",
    "FLUSH_SECONDS": "0.2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a fault did.

    Attributes:
        entry: its status.
        neighbours: theirs.
        counted: attempts counted, of all.
        code: the task's exit code.
        hold: whether a hold stands.
    """

    entry: str
    neighbours: str
    counted: int
    code: int = 0
    hold: bool = False


_COMPLETES = Seen(entry="completed", neighbours="completed", counted=0)
_RETRIES = Seen(entry="pending", neighbours="completed", counted=1)
_FAILS = Seen(entry="failed", neighbours="completed", counted=1)
_ALL_RETRY = Seen(entry="pending", neighbours="pending", counted=1 + NEIGHBOURS, code=5)
_STOPS = Seen(entry="pending", neighbours="pending", counted=0, code=4, hold=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to misbehave.

    Attributes:
        name: for the table.
        expected: what it may do.
        told: to the partner, by the entry; its neighbours are answered 200.
        everyone: whether the neighbours tell it too.
        server: makes another partner than the stack's.
    """

    name: str
    expected: Seen
    told: dict[str, Any] = field(default_factory=dict)
    everyone: bool = False
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
    Fault(name="resets in the middle of a 200", told={"body": "cut"}, expected=_COMPLETES),
    Fault(name="trickles a 200, a byte a second", told={"body": "trickle"}, expected=_COMPLETES),
    Fault(name="answers 200 with 10 MB", told={"body": "large"}, expected=_COMPLETES),
    Fault(name="answers 200 with bad gzip", told={"body": "gzip"}, expected=_COMPLETES),
    Fault(name="resets in the middle of a 500", told={"body": "cut", "status": 500}, expected=_RETRIES),
    Fault(name="answers 429, Retry-After 2", told={"status": 429, "retry_after": 2}, expected=_RETRIES),
    Fault(name="answers 503", told={"status": 503}, expected=_RETRIES),
    Fault(name="does not answer in time", told={"delay_ms": 4000}, expected=_RETRIES),
    Fault(name="hangs up on one entry", told={"hang_up": True}, expected=_RETRIES),
    Fault(name="answers one entry 401", told={"status": 401}, expected=_FAILS),
    Fault(name="answers 302", told={"status": 302, "location": "https://127.0.0.1:1/"}, expected=_FAILS),
    Fault(name="answers 400", told={"status": 400}, expected=_FAILS),
    Fault(name="answers everybody 401", told={"status": 401}, everyone=True, expected=_STOPS),
    Fault(name="hangs up on everybody", told={"hang_up": True}, everyone=True, expected=_STOPS),
    Fault(name="has a wrong host name", server=_wrong_host, expected=_STOPS),
    Fault(name="has an expired certificate", server=_expired, expected=_STOPS),
    Fault(name="has a certificate of a foreign CA", server=_foreign_ca, expected=_STOPS),
    Fault(name="refuses our certificate, TLS 1.2", server=_refuses_our_certificate("1.2"), expected=_STOPS),
    Fault(name="refuses our certificate, TLS 1.3", server=_refuses_our_certificate("1.3"), expected=_STOPS),
    Fault(name="refuses our certificate, 400 page", server=_answers_with_a_page, expected=_STOPS),
)
_REFUSED = Fault(name="refuses the connection", expected=_ALL_RETRY)


def _play(state: Path, tell: Tell) -> Verdict:
    rows = [("the partner ...", "entry", f"its {NEIGHBOURS} neighbours", "counted", "exit", "hold", "as promised")]
    unexpected = []
    with staged(state) as stage:
        for fault in (_REFUSED, *FAULTS):
            with _url(stage, fault, state / "tmp" / "misbehaving") as url:
                seen = _seen(stage, fault, url)
            tell(f"{fault.name}: entry {seen.entry}, neighbours {seen.neighbours}, exit code {seen.code}")
            if seen != fault.expected:
                unexpected.append(fault.name)
            rows.append(
                (
                    fault.name,
                    seen.entry,
                    seen.neighbours,
                    str(seen.counted),
                    str(seen.code),
                    "yes" if seen.hold else "no",
                    "yes" if seen == fault.expected else f"NO: {fault.expected}",
                )
            )
    figures = {"faults": len(rows) - 1, "as_promised": len(rows) - 1 - len(unexpected), "unexpected": unexpected}
    compressed = {"SERVICE_TIMEOUT_SECONDS": "2 instead of 30"}
    return Verdict(held=not unexpected, figures=figures, compressed=compressed, table=rows)


@contextlib.contextmanager
def _url(stage: Stage, fault: Fault, folder: Path) -> Iterator[str]:
    """Where the misbehaving partner is."""
    if fault is _REFUSED:
        with socket.socket() as closed:  # bound and not listening: nobody answers, and nobody else gets the port
            closed.bind((_HOST, 0))
            yield f"https://{_HOST}:{closed.getsockname()[1]}/process"
    elif fault.server is None:
        yield stage.stack.partner
    else:
        with serving(*fault.server(stage.stack.certificates, folder)) as port:
            yield f"https://{_HOST}:{port}/process"


def _seen(stage: Stage, fault: Fault, url: str) -> Seen:
    stage.empty()
    told = fault.told
    # The neighbours take a moment, so that the entry's fate is not decided by who comes first.
    stage.insert([told] + [told if fault.everyone else {"delay_ms": 50}] * NEIGHBOURS)
    _, code = stage.run(_SETTINGS | {"EXTERNAL_SERVICE_URL": url})
    (entry, *neighbours) = [status for (status,) in stage.sql("SELECT status FROM PROCESSING_QUEUE ORDER BY id")]
    ((counted,),) = stage.sql("SELECT SUM(retry_count) FROM PROCESSING_QUEUE")
    ((holds,),) = stage.sql("SELECT COUNT(*) FROM PROCESSING_HOLDS")
    return Seen(
        entry=entry, neighbours=", ".join(sorted(set(neighbours))), counted=int(counted), code=code, hold=holds > 0
    )


DRILL = Drill(
    name="partner",
    promise="Whatever the partner does harms no neighbour, spends no attempt needlessly, and leaves a reason.",
    play=_play,
)
