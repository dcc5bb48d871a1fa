"""The client certificate is expired, does not match its key, or is missing: nothing is claimed, the error says why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rowqueue.contract import ExitCode
from rowqueue_local import authority, deployment
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, staged

if TYPE_CHECKING:
    from pathlib import Path

    from rowqueue_local.drills import Tell

ENTRIES = 5
_PREFIX = f"s3://{deployment.BUCKET}/dev/"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """An unfit certificate: the objects in the bucket (``None``: missing), and what the error has to name."""

    name: str
    objects: dict[str, bytes | None]
    named: tuple[str, ...]


def _cases(folder: Path) -> list[_Case]:
    ended = datetime.now(UTC) - timedelta(days=3)
    expired = authority.issue(folder / "expired", client_expires=ended)
    other = authority.issue(folder / "other")
    return [
        _Case(
            name="expired",
            objects={"client.pem": expired.client.read_bytes(), "client-key.pem": expired.client_key.read_bytes()},
            named=(f"{_PREFIX}client.pem", f"expired on {ended:%Y-%m-%d}"),
        ),
        _Case(
            name="mismatched",
            objects={"client-key.pem": other.client_key.read_bytes()},
            named=(f"{_PREFIX}client.pem", f"{_PREFIX}client-key.pem", "key values mismatch"),
        ),
        _Case(name="missing", objects={"client.pem": None}, named=(f"{_PREFIX}client.pem", "is missing")),
    ]


def _play(state: Path, tell: Tell) -> Verdict:
    rows = [("certificate", "exit code", "claimed", "it said")]
    claimed, silent, holds = 0, 0, 0
    codes = set()
    with staged(state) as stage:
        stage.insert([{}] * ENTRIES)
        for case in _cases(state / "tmp" / "unfit"):
            _put(stage, case)
            stage.sql("DELETE FROM PROCESSING_HOLDS")
            run, code = stage.run({})
            ((reason,),) = stage.sql("SELECT MAX(reason) FROM PROCESSING_HOLDS")
            holds += reason == run.error()
            taken = ENTRIES - stage.counts().get("pending", 0)
            error = run.error()
            claimed += taken
            silent += not all(part in error for part in case.named)
            codes.add(code)
            rows.append((case.name, str(code), str(taken), error))
            tell(f"{case.name}: exit code {code}, {taken} claimed: {error}")
        _put(stage, _Case(name="renewed", objects={}, named=()))
        stage.sql("DELETE FROM PROCESSING_HOLDS")
        _, renewed_code = stage.run({})
        completed = stage.counts().get("completed", 0)
        tell(f"renewed, and the hold deleted: the next processor ends with {renewed_code}, {completed} completed")
    refused = claimed == 0 and codes == {ExitCode.CERTIFICATES} and not silent and holds == len(rows) - 1
    kept = refused and renewed_code == ExitCode.DONE and completed == ENTRIES
    figures = {
        "claimed": claimed,
        "exit_codes": sorted(codes),
        "messages_that_name_object_and_reason": len(rows) - 1 - silent,
        "holds_with_that_reason": holds,
        "completed_after_renewal": completed,
    }
    return Verdict(kept=kept, figures=figures, table=rows)


def _put(stage: Stage, case: _Case) -> None:
    """Put the good objects into the bucket, replaced by the case's."""
    s3 = deployment.client(stage.stack, "s3")
    good = stage.stack.certificates
    objects = {"client.pem": good.client.read_bytes(), "client-key.pem": good.client_key.read_bytes(), **case.objects}
    for name, content in objects.items():
        if content is None:
            s3.delete_object(Bucket=deployment.BUCKET, Key=f"dev/{name}")
        else:
            s3.put_object(Bucket=deployment.BUCKET, Key=f"dev/{name}", Body=content)


DRILL = Drill(
    name="certificate",
    promise="With an unfit client certificate nothing is claimed, and the error names the object and the reason.",
    play=_play,
)
