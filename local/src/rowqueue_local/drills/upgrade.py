"""The next release's migration runs while workers of the frozen release claim: none of them claims after its fence.

The migration and the next release are made up: a column for entries that may not be sent yet, and a claim that skips
them. A worker of the frozen release does not know the column, so it must not claim once the migration has begun.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rowqueue import credentials
from rowqueue.migrate import runner, scripts
from rowqueue.settings import SnowflakeSettings
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local import deployment, processes, stack
from rowqueue_local.drills import Drill, Verdict
from rowqueue_local.drills.stage import Stage, wait_until
from rowqueue_local.drills.upgrade_worker import UpgradeJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from rowqueue import sql
    from rowqueue_local.drills import Tell
    from rowqueue_local.stack import Stack

_RELEASED = stack.REPOSITORY / "tests" / "released"
_STATEMENTS = stack.REPOSITORY / "src" / "rowqueue" / "sql" / "queries.sql"
_SKIPS = "AND NOT cancel_requested"
_GUARD = "NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE oldest_program > {program})"
_BEFORE = 500
_OLD_FIRST = 20
_AFTER = 400
_EMBARGOED = 100
_CLAIM_S = 0.7
_FENCE_S = 4.0
_OLD_MAY_CLAIM_S = 2.0
_PATIENCE_S = 60.0
_SETTINGS = {"ENVIRONMENT": "drill", "CERT_BUCKET": "not-asked", "MAX_CONCURRENT_DELIVERIES": "20"}
_OLD = {"MAX_ENTRIES": "10", "MAX_BLOCK_ENTRIES": "10"}
_MIGRATION = """\
{fence}
ALTER TABLE PROCESSING_QUEUE ADD COLUMN embargoed BOOLEAN NOT NULL DEFAULT FALSE;

INSERT INTO SCHEMA_VERSION (version, oldest_program, applied_by)
SELECT {number}, {number}, CURRENT_USER()
 WHERE NOT EXISTS (SELECT 1 FROM SCHEMA_VERSION WHERE version >= {number});
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """The upgrade, or one with a fault, by which the drill shows that it can fail.

    Attributes:
        fenced: whether the migration places its fence.
        guarded: whether the claim of the frozen release asks for ``oldest_program``.
    """

    fenced: bool = True
    guarded: bool = True

    @property
    def is_faulty(self) -> bool:
        """Whether the drill should fail."""
        return not (self.fenced and self.guarded)


@dataclass(slots=True)
class _Noting:
    """The migration's warehouse. It notes when the first statement of a migration is sent.

    Attributes:
        migration: the beginning of the names of its statements.
        began: seconds since the epoch.
    """

    warehouse: SnowflakeWarehouse
    migration: str
    began: float = 0.0

    def rows(self, statement: sql.Statement, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self.warehouse.rows(statement, values)

    def change(self, statement: sql.Statement, values: Mapping[str, object]) -> int:
        if not self.began and statement.name.startswith(self.migration):
            self.began = time.time()
        return self.warehouse.change(statement, values)


def _play(state: Path, tell: Tell) -> Verdict:
    return rehearse(state, tell, Rehearsal())


def rehearse(state: Path, tell: Tell, rehearsal: Rehearsal) -> Verdict:
    """Play the drill, as it is or with a fault in the migration or in the frozen release.

    With a fault it ends as soon as a worker of the frozen release has claimed late, because nothing else is asked.
    """
    release = max(_RELEASED.iterdir())
    with (
        stack.running(stack.Options(state=state)) as running,
        deployment.session(running) as session,
        contextlib.ExitStack() as workers,
    ):
        session.execute_string((release / scripts.FIRST).read_text(encoding="utf-8"))
        stage = Stage(stack=running, session=session)
        number = scripts.read().newest + 1
        old, new = _statements(state, release, rehearsal, number=number)
        stage.insert([{}] * _BEFORE)
        logs = [
            workers.enter_context(_worker(running, name=name, statements=old, claim_s=_CLAIM_S, settings=_OLD))
            for name in ("old-1", "old-2")
        ]
        if not wait_until(lambda: stage.counts().get("completed", 0) >= _OLD_FIRST, seconds=_PATIENCE_S):
            raise stack.StackError(f"the workers of {release.name} delivered nothing: {logs[0].read_text()[-500:]}")
        tell(f"two workers of {release.name} claim and deliver; a migration to version {number} begins")
        began = _migrate(running, state, tell, number=number, rehearsal=rehearsal)
        stage.insert([{}] * (_AFTER + _EMBARGOED))
        embargoed = _embargo(stage)
        time.sleep(_OLD_MAY_CLAIM_S)
        if not (rehearsal.is_faulty and _claimed_late(logs, began)):
            tell("the next release starts two workers")
            for name in ("new-1", "new-2"):
                workers.enter_context(_worker(running, name=name, statements=new, claim_s=0.0, settings={}))
            open_entries = _BEFORE + _AFTER
            wait_until(lambda: stage.counts().get("completed", 0) >= open_entries, seconds=_PATIENCE_S)
            stage.sql("UPDATE PROCESSING_QUEUE SET embargoed = FALSE WHERE embargoed")
            wait_until(lambda: stage.counts() == {"completed": open_entries + embargoed}, seconds=_PATIENCE_S)
        figures = _figures(stage, logs, began=began)
    kept = figures["entries"] == _BEFORE + _AFTER + _EMBARGOED and not any(list(figures.values())[1:])
    return Verdict(kept=kept, figures=figures, compressed={"FENCE_S": f"{_FENCE_S:g} instead of {runner.FENCE_S:g}"})


def _figures(stage: Stage, logs: list[Path], *, began: float) -> dict[str, int]:
    ((entries, completed),) = stage.sql(
        "SELECT COUNT(*), COUNT(IFF(status = 'completed', 1, NULL)) FROM PROCESSING_QUEUE"
    )
    ((recorded_twice,),) = stage.sql(
        "SELECT COUNT(*) FROM (SELECT entry_id FROM PROCESSING_ATTEMPTS WHERE outcome = 'succeeded' "
        "GROUP BY entry_id HAVING COUNT(*) > 1) AS again"
    )
    return {
        "entries": int(entries),
        "lost": int(entries) - int(completed),
        "recorded_twice": int(recorded_twice),
        "claimed_by_old_after_fence": _claimed_late(logs, began),
    }


def _claimed_late(logs: list[Path], began: float) -> int:
    """How many entries the workers of the frozen release claimed after the migration had begun."""
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]
    return sum(line["entries"] for line in lines if line.get("commits_at", 0.0) > began)


def _embargo(stage: Stage) -> int:
    """Embargo the entries that were inserted last; returns how many of them nobody has claimed."""
    stage.sql(
        "UPDATE PROCESSING_QUEUE SET embargoed = TRUE WHERE status = 'pending' AND id > "
        "(SELECT MAX(id) - ? FROM PROCESSING_QUEUE)",
        _EMBARGOED,
    )
    ((embargoed,),) = stage.sql("SELECT COUNT(*) FROM PROCESSING_QUEUE WHERE embargoed")
    return int(embargoed)


def _statements(state: Path, release: Path, rehearsal: Rehearsal, *, number: int) -> tuple[Path, Path]:
    """The statements of the frozen release, and those of the next one: the present ones, with the new column."""
    old, new = state / "old.sql", state / "new.sql"
    frozen = (release / "queries.sql").read_text(encoding="utf-8")
    present = _STATEMENTS.read_text(encoding="utf-8")
    guard = _GUARD.format(program=number - 1)
    if guard not in frozen or "{program}" not in present or _SKIPS not in present:
        raise stack.StackError("the statements have changed: this drill looks for other words in them")
    old.write_text(frozen if rehearsal.guarded else frozen.replace(guard, "1 = 1"), encoding="utf-8")
    narrowed = present.replace("{program}", str(number)).replace(_SKIPS, f"{_SKIPS} AND NOT embargoed")
    new.write_text(narrowed, encoding="utf-8")
    return old, new


def _migrate(running: Stack, state: Path, tell: Tell, *, number: int, rehearsal: Rehearsal) -> float:
    """Run the migration as ``rowqueue migrate`` does; returns when its first statement was sent."""
    folder = state / "migrations"
    folder.mkdir(exist_ok=True)
    name = f"{number:04}_embargo"
    fence = "-- fence: an entry may be embargoed" if rehearsal.fenced else ""
    (folder / f"{name}.sql").write_text(_MIGRATION.format(fence=fence, number=number), encoding="utf-8")
    settings = SnowflakeSettings.from_env(running.environ)
    login = credentials.login(settings, environment="drill")
    with contextlib.closing(SnowflakeWarehouse(settings, login, query_tag="drill")) as warehouse:
        noting = _Noting(warehouse=warehouse, migration=name)
        report = runner.migrate(
            noting, scripts.read(later=folder), queue=settings.table, tell=tell, sleep=time.sleep, fence_s=_FENCE_S
        )
    if report.applied != [name]:
        raise stack.StackError(f"expected the migration {name}, got {report.applied}")
    return noting.began


@contextlib.contextmanager
def _worker(
    running: Stack, *, name: str, statements: Path, claim_s: float, settings: Mapping[str, str]
) -> Iterator[Path]:
    """A worker that claims and delivers until the block ends; yields its log."""
    state = running.options.state
    environ = {**running.environ, **_SETTINGS, **settings}
    job = UpgradeJob(environ=environ, name=name, statements=str(statements), claim_s=claim_s)
    log = state / "logs" / f"{name}.log"
    with log.open("wb") as output:
        process = processes.spawn(
            [sys.executable, "-m", "rowqueue_local.drills.upgrade_worker"],
            registry=state / "pids",
            env={**os.environ, "TMPDIR": str(state / "tmp")},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(f"{json.dumps(asdict(job))}\n".encode())
        process.stdin.flush()
        yield log
    finally:
        processes.stop(process, grace_seconds=2)
        process.stdin.close()


DRILL = Drill(
    name="upgrade",
    promise="Once a migration that narrows the claim has begun, workers of the release before claim nothing.",
    play=_play,
)
