"""Whether the service accepts us: what looks like a fault of credentials is held back until that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rowqueue.lifecycle import CredentialsFault, Interrupted, Outcome, Succeeded, Transient, Verdict, outcome_of

if TYPE_CHECKING:
    from rowqueue.lifecycle import Entry

WITNESSES = 3
"""So many entries have to be refused, and none accepted, before it is believed: one may provoke it by itself. They
pay no attempt for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An entry whose delivery met a fault of credentials, not settled yet.

    Attributes:
        entry: as it was claimed.
        fault: what it met.
        began: when its delivery was started, seconds on the run's clock.
    """

    entry: Entry
    fault: CredentialsFault
    began: float


@dataclass(slots=True, kw_only=True)
class Trust:
    """What this task has learnt of its standing with the service.

    Attributes:
        probe: whether this task was sent to try a single entry after a hold.
        accepted: whether the service has answered 2xx.
        answered: whether it has answered anything that is not about credentials.
        unanswered: why the last delivery got no answer, if there was one that did not.
        suspects: entries that wait for the question to be settled.
        told: those that were suspects last, for the reason.
    """

    probe: bool
    accepted: bool = False
    answered: bool = False
    unanswered: str | None = None
    suspects: list[Suspect] = field(default_factory=list)
    told: list[Suspect] = field(default_factory=list)

    def weigh(self, entry: Entry, verdict: Verdict, *, began: float) -> Outcome | None:
        """The outcome of a verdict, or ``None`` while it is in doubt whether it is the entry's fault."""
        if isinstance(verdict, CredentialsFault):
            if self.accepted and not verdict.certain:
                return outcome_of(verdict, trusted=True, probe=self.probe)
            self.suspects.append(Suspect(entry=entry, fault=verdict, began=began))
            return None
        self.accepted = self.accepted or isinstance(verdict, Succeeded)
        if isinstance(verdict, Transient) and verdict.response_status is None:
            self.unanswered = verdict.reason
        elif not isinstance(verdict, Interrupted):
            self.answered = self.answered or verdict.response_status is not None
        return verdict

    @property
    def cleared(self) -> bool:
        """Whether the suspects can be settled as their own fault: a 2xx has shown that our credentials are good."""
        return bool(self.suspects) and self.accepted and not self.certain

    @property
    def grave(self) -> bool:
        """Whether no more entries should be tried until those in flight have been answered."""
        return self.certain or len(self.suspects) >= WITNESSES

    @property
    def certain(self) -> bool:
        """Whether there is a fault that no entry can have caused."""
        return any(suspect.fault.certain for suspect in self.suspects)

    def gravest(self) -> CredentialsFault | None:
        """The fault to tell of those that decided it: a certain one, if there is one."""
        faults = [suspect.fault for suspect in self.told]
        return next((fault for fault in faults if fault.certain), faults[0] if faults else None)

    def outcome(self, suspect: Suspect) -> Outcome:
        """What becomes of a suspect, by what is known now."""
        return outcome_of(suspect.fault, trusted=self.accepted, probe=self.probe)
