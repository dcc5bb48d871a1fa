"""The faults of a storm, caused on a running stack."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from rowqueue.contract import processor_id
from rowqueue.sql import statements
from rowqueue_local import deployment
from rowqueue_local.drills.storm_judge import Freeze, Taking
from rowqueue_local.drills.storm_plan import BY_A_PERSON, FaultKind
from rowqueue_local.snowflake.proxy import Disturbance
from rowqueue_local.stack import ENVIRONMENT, StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rowqueue_local.drills.stage import Stage
    from rowqueue_local.drills.storm_plan import PlannedFault
    from rowqueue_local.snowflake.proxy import Proxy, Sent

CLAIM = frozenset({"claim"})
ATTEMPTS = frozenset({"insert_attempts"})
SETTLE = frozenset({"settle", "settle_bound"})
RESCUE = frozenset({"record_deaths", "fail_poison", "release_dead", "record_resets", "reset_stale"})
_NAMES = {statement.text: name for name, statement in statements(queue="PROCESSING_QUEUE").items()}

_SERVER_ERROR = {"code": "ServerException"}
_INJECTED: Mapping[FaultKind, Mapping[str, Any]] = {
    FaultKind.FROZEN_START: {"hang_every": 1},
    FaultKind.SLOW_START: {"task_start_seconds": [4, 10]},
    FaultKind.RUN_TASK_THROTTLED: {"refuse": {"RunTask": {"code": "ThrottlingException", "message": "Rate exceeded"}}},
    FaultKind.RUN_TASK_ANSWER_LOST: {"refuse": {"RunTask": {**_SERVER_ERROR, "done": True}}},
    FaultKind.NO_CAPACITY: {"unplaced": {"reason": "Capacity is unavailable at this time"}},
    FaultKind.PARTLY_PLACED: {"unplaced": {"reason": "Capacity is unavailable at this time", "tasks": 1}},
    FaultKind.LIST_TASKS_REFUSED: {"refuse": {"ListTasks": _SERVER_ERROR}},
    FaultKind.LIST_TASKS_LAG: {"list_lag_seconds": 6},
    FaultKind.DESCRIBE_TASKS_REFUSED: {"refuse": {"DescribeTasks": _SERVER_ERROR}},
    FaultKind.STOP_TASK_REFUSED: {"refuse": {"StopTask": _SERVER_ERROR}},
    FaultKind.EVENTS_LOST: {"events": {"suppressed": True}},
    FaultKind.EVENTS_DOUBLED: {"events": {"copies": 3}},
    FaultKind.EVENTS_LATE: {"events": {"delay_seconds": [1, 8]}},
    FaultKind.S3_AWAY: {"away": ["s3"]},
    FaultKind.LAMBDA_THROTTLED: {"throttled": True},
    FaultKind.LAMBDA_TIMED_OUT: {"invocation_seconds": 0.15},
}
_CUTS: Mapping[FaultKind, tuple[frozenset[str], bool]] = {  # which statements, and whether they arrive
    FaultKind.CLAIM_CUT_BEFORE: (CLAIM, False),
    FaultKind.CLAIM_CUT_AFTER: (CLAIM, True),
    FaultKind.ATTEMPTS_CUT_BEFORE: (ATTEMPTS, False),
    FaultKind.ATTEMPTS_CUT_AFTER: (ATTEMPTS, True),
    FaultKind.SETTLE_CUT_BEFORE: (SETTLE, False),
    FaultKind.SETTLE_CUT_AFTER: (SETTLE, True),
    FaultKind.RESCUE_CUT_BEFORE: (RESCUE, False),
    FaultKind.RESCUE_CUT_AFTER: (RESCUE, True),
    FaultKind.KILL_BEFORE_SETTLE: (SETTLE, False),
    FaultKind.KILL_AFTER_SETTLE: (SETTLE, True),
}
_KILLING = frozenset({FaultKind.KILL_BEFORE_SETTLE, FaultKind.KILL_AFTER_SETTLE})
_ON_A_TASK: Mapping[FaultKind, str] = {
    FaultKind.KILL: "SIGKILL",
    FaultKind.FREEZE: "SIGSTOP",
    FaultKind.FREEZE_UNTIL_STOPPED: "SIGSTOP",
    FaultKind.SPOT_NOTICE: "interrupt",
    FaultKind.STOP_TASK: "StopTask",
}
_PROCESSOR = re.compile(rf"{ENVIRONMENT}-([0-9a-f]{{32}})")
_LOGIN = "/session/v1/login-request"
_NO_SESSION = {"code": "390111", "message": "Session no longer exists. New login required to access the service."}
_NO_LOGIN = {"code": "390100", "message": "Incorrect username or password was specified."}
_AT_WORK = 0.7
_COPIES_OF_A_PUSH = 2


def injections(kinds: Iterable[FaultKind]) -> dict[str, Any]:
    """The request that puts exactly these faults into force. Of two that need the same value, the later one counts."""
    merged: dict[str, Any] = dict.fromkeys(name for fault in _INJECTED.values() for name in fault)
    for kind in kinds:
        for name, value in _INJECTED[kind].items():
            merged[name] = {**(merged[name] or {}), **value} if name == "refuse" else value
    return merged


def effect_of(kind: FaultKind) -> str:
    """The name under which the AWS stand-in counts the effects of an injected fault."""
    ((name, value),) = _INJECTED[kind].items()
    return f"{name}.{next(iter(value))}" if name in {"refuse", "events"} else name


@dataclass(slots=True)
class Watcher:
    """Watches what is sent to Snowflake, from the proxy's thread.

    Attributes:
        takings: statements that took claims away and gave the entries back.
        workers: the task that uses a session, by the session.
    """

    takings: list[Taking] = field(default_factory=list)
    workers: dict[str, str] = field(default_factory=dict)

    def observe(self, sent: Sent) -> None:
        """Note a request."""
        name = _NAMES.get(sent.text)
        if name in ATTEMPTS | CLAIM:
            for value in sent.values:
                if match := _PROCESSOR.fullmatch(value):
                    self.workers[sent.session] = match[1]
        elif sent.session:
            self.workers.setdefault(sent.session, "")

    def ran(self, sent: Sent, at: float) -> None:
        """Note a request that Snowflake has run, and when it was sent. Entries that fail are not delivered again."""
        name = _NAMES.get(sent.text)
        if name == "release_dead":
            deaths = next(json.loads(value) for value in sent.values if value.startswith("["))
            self.takings.append(Taking(at=at, workers=[death["processor_id"] for death in deaths]))
        elif name == "reset_stale":
            self.takings.append(Taking(at=at, workers=None))


@dataclass(slots=True)
class StormFaults:
    """Causes faults, and counts those that had an effect.

    Attributes:
        counts: faults with an effect so far, by kind.
        freezes: tasks that were frozen.
    """

    stage: Stage
    proxy: Proxy
    watcher: Watcher
    counts: Counter[FaultKind] = field(default_factory=Counter)
    freezes: list[Freeze] = field(default_factory=list)
    _active: dict[FaultKind, Callable[[], bool]] = field(default_factory=dict)
    _revisions: list[str] = field(default_factory=list)
    _frozen: dict[PlannedFault, str] = field(default_factory=dict)

    def begin(self, fault: PlannedFault) -> bool:
        """Cause a fault; returns whether that was possible. It is not while there is no task that it could hit."""
        kind = fault.kind
        if kind in self._active:
            return True  # the earlier one still lasts
        if kind in _ON_A_TASK:
            return self._hit(fault)
        if kind is FaultKind.NEW_REVISION:
            self._revisions.append(self._deploy_revision())
        elif kind is FaultKind.PUSH_DOUBLED:
            self._active[kind] = self._counter_of_pushes()
            self._push()
        elif kind is FaultKind.CERTIFICATE_AWAY:
            return self._take_certificate()
        elif kind in _INJECTED:
            self._active[kind] = self._counter_of(effect_of(kind))
            self._inject()
        else:
            self._active[kind] = self._proxied_counter(kind)
            self.proxy.disturb(kind, self._disturbance(kind))
        return True

    def end(self, fault: PlannedFault) -> bool:
        """End a fault, and count it if it had an effect; returns whether that was possible."""
        if fault in self._frozen:
            self._resume(self._frozen.pop(fault))
        if fault.kind not in self._active:
            return True
        if fault.kind is FaultKind.CERTIFICATE_AWAY and not self._put_certificate():
            return False
        had_effect = self._active.pop(fault.kind)
        if fault.kind in _INJECTED:
            self._inject()
        else:
            self.proxy.stop(fault.kind)
        self.counts[fault.kind] += had_effect()
        return True

    def finish(self) -> None:
        """Let every frozen task go on, and count the revisions of which a task was launched."""
        launched = {task["task_definition"] for task in self.stage.stack.launches()["tasks"]}
        self.counts[FaultKind.NEW_REVISION] += sum(revision in launched for revision in self._revisions)
        for task in self._running():
            self._resume(task)

    def _resume(self, task: str) -> None:
        with contextlib.suppress(StackError):  # the task has been stopped meanwhile
            self.stage.stack.signal(task, "SIGCONT")
            now = time.time()
            self.freezes = [
                replace(freeze, ended_at=now)
                if freeze.processor_id == processor_id(ENVIRONMENT, task) and freeze.ended_at is None
                else freeze
                for freeze in self.freezes
            ]

    def _victim(self, pick: float) -> str | None:
        """A running task. Most faults hit one that has entries in hand, the others may hit one that starts."""
        tasks = self._running()
        if pick < _AT_WORK:
            workers = self.stage.sql("SELECT DISTINCT processor_id FROM PROCESSING_QUEUE WHERE status = 'processing'")
            tasks = [task for task in tasks if (f"{ENVIRONMENT}-{task}",) in workers]
        return tasks[int(pick * 1000) % len(tasks)] if tasks else None

    def _running(self) -> list[str]:
        tasks = self.stage.stack.launches()["tasks"]
        return [task["id"] for task in tasks if task["status"] == "RUNNING"]

    def _hit(self, fault: PlannedFault) -> bool:
        task, how = self._victim(fault.pick), _ON_A_TASK[fault.kind]
        if task is None:
            return False
        try:
            if how == "interrupt":
                self.stage.stack.interrupt(task)
            elif how == "StopTask":
                deployment.client(self.stage.stack, "ecs").stop_task(
                    cluster=deployment.PROCESSOR, task=task, reason=BY_A_PERSON
                )
            else:
                self.stage.stack.signal(task, how)
        except (StackError, ClientError, BotoCoreError):  # it has just ended, or ECS refuses at the moment
            return False
        self.counts[fault.kind] += 1
        if how == "SIGSTOP":
            worker = processor_id(ENVIRONMENT, task)
            self.freezes.append(Freeze(processor_id=worker, began_at=time.time(), ended_at=None))
        if fault.kind is FaultKind.FREEZE:
            self._frozen[fault] = task
        return True

    def _inject(self) -> None:
        self.stage.stack.inject(**injections(kind for kind in self._active if kind in _INJECTED))

    def _counter_of(self, effect: str) -> Callable[[], bool]:
        before = self.stage.stack.met().get(effect, 0)
        return lambda: self.stage.stack.met().get(effect, 0) > before

    def _proxied_counter(self, kind: FaultKind) -> Callable[[], bool]:
        before = self.proxy.met[kind]
        return lambda: self.proxy.met[kind] > before

    def _counter_of_pushes(self) -> Callable[[], bool]:
        def ticks() -> int:
            return sum(tick["by"] == "push" for tick in self.stage.ticks())

        before = ticks()
        return lambda: ticks() >= before + _COPIES_OF_A_PUSH

    def _disturbance(self, kind: FaultKind) -> Disturbance:
        if kind in _KILLING:
            return self._killing(kind)
        if kind in _CUTS:
            names, forward = _CUTS[kind]
            return Disturbance(matches=lambda sent: _NAMES.get(sent.text) in names, forward=forward)
        if kind is FaultKind.SNOWFLAKE_AWAY:
            return Disturbance(matches=lambda _: True)
        lost, refused = frozenset(self.watcher.workers), kind is FaultKind.LOGIN_REFUSED
        return Disturbance(
            matches=lambda sent: sent.session in lost or (refused and sent.path == _LOGIN),
            answer=lambda sent: {"success": False, "data": None, **(_NO_LOGIN if sent.path == _LOGIN else _NO_SESSION)},
        )

    def _killing(self, kind: FaultKind) -> Disturbance:
        names, forward = _CUTS[kind]
        victims: list[str] = []

        def matches(sent: Sent) -> bool:
            if _NAMES.get(sent.text) not in names or victims:
                return False
            victims.append(self.watcher.workers.get(sent.session, ""))
            return True

        def kill(_: Sent) -> None:
            with contextlib.suppress(StackError):
                self.stage.stack.signal(victims[0], "SIGKILL")

        return Disturbance(matches=matches, forward=forward, then=kill)

    def _deploy_revision(self) -> str:
        """Register the task definition again, and let the function launch the new revision; returns its ARN."""
        ecs, functions = (deployment.client(self.stage.stack, service) for service in ("ecs", "lambda"))
        current = ecs.describe_task_definition(taskDefinition=deployment.PROCESSOR)["taskDefinition"]
        names = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "containerDefinitions")
        arn = ecs.register_task_definition(**{name: current[name] for name in names})["taskDefinition"]
        variables = functions.get_function_configuration(FunctionName=deployment.POLLER)["Environment"]["Variables"]
        functions.update_function_configuration(
            FunctionName=deployment.POLLER,
            Environment={"Variables": {**variables, "ECS_TASK_DEFINITION": arn["taskDefinitionArn"]}},
        )
        return str(arn["taskDefinitionArn"])

    def _push(self) -> None:
        sns = deployment.client(self.stage.stack, "sns")
        topic = sns.create_topic(Name=deployment.PUSH)["TopicArn"]  # it exists; this only answers its ARN
        for _ in range(_COPIES_OF_A_PUSH):
            sns.publish(TopicArn=topic, Message=json.dumps({"why": "storm"}))

    def _take_certificate(self) -> bool:
        read_in_vain = self._counter_of(f"not_found:/{deployment.BUCKET}/{self._certificate}")
        try:
            deployment.client(self.stage.stack, "s3").delete_object(Bucket=deployment.BUCKET, Key=self._certificate)
        except (ClientError, BotoCoreError):  # S3 is away
            return False
        self._active[FaultKind.CERTIFICATE_AWAY] = read_in_vain
        return True

    def _put_certificate(self) -> bool:
        body = self.stage.stack.certificates.client.read_bytes()
        try:
            deployment.client(self.stage.stack, "s3").put_object(
                Bucket=deployment.BUCKET, Key=self._certificate, Body=body
            )
        except (ClientError, BotoCoreError):  # S3 is away
            return False
        return True

    @property
    def _certificate(self) -> str:
        return f"{ENVIRONMENT}/{self.stage.stack.certificates.client.name}"
