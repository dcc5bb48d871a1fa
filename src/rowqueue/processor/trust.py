"""Whether the service accepts our credentials. Until that is known, a fault that may be theirs is not settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rowqueue.lifecycle import CredentialsFault, Succeeded, Transient, outcome_of

if TYPE_CHECKING:
    from rowqueue.lifecycle import Entry, Outcome, Verdict

WITNESSES = 3
"""Number of refused entries, with none accepted, that ends the task: a single entry may provoke a refusal by itself. No
attempt is counted for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful:
    """An entry whose delivery met a fault of credentials, and that is not settled yet.

    Attributes:
        entry: as it was claimed.
        fault: what its delivery met.
        began: when the delivery was started, seconds on the run's clock.
    """

    entry: Entry
    fault: CredentialsFault
    began: float


class Trust:
    """What this task has learned about our credentials from the service's answers.

    Attributes:
        answered: whether the service has answered anything that is not about credentials.
        unanswered: why the last delivery without an answer got none; ``None`` if there was no such delivery.
        doubtful: entries that are not settled until the doubt ends.
    """

    def __init__(self) -> None:
        self.answered = False
        self.unanswered: str | None = None
        self.doubtful: list[Doubtful] = []
        self._accepted = False
        self._decided: list[Doubtful] = []

    def weigh(self, entry: Entry, verdict: Verdict, *, began: float) -> Outcome | None:
        """The outcome of a delivery, or ``None`` while it is in doubt whether the entry caused the fault."""
        if isinstance(verdict, CredentialsFault):
            if self._accepted and not verdict.certain:
                return outcome_of(verdict, trusted=True, doubts=entry.doubts)
            self.doubtful.append(Doubtful(entry=entry, fault=verdict, began=began))
            return None
        self._accepted = self._accepted or isinstance(verdict, Succeeded)
        if isinstance(verdict, Transient) and verdict.response_status is None:
            self.unanswered = verdict.reason
        else:
            self.answered = self.answered or verdict.response_status is not None
        return verdict

    @property
    def cleared(self) -> bool:
        """Whether a 2xx has shown that our credentials are good, so that the doubtful entries caused their faults."""
        return bool(self.doubtful) and self._accepted and not self.certain

    @property
    def grave(self) -> bool:
        """Whether no delivery should start until those in flight have been answered."""
        return self.certain or len(self.doubtful) >= WITNESSES

    @property
    def certain(self) -> bool:
        """Whether there is a fault that no entry can have caused."""
        return any(doubtful.fault.certain for doubtful in self.doubtful)

    def decide(self) -> list[tuple[Doubtful, Outcome]]:
        """End the doubt: the doubtful entries, each with its outcome by what is known now."""
        self._decided, self.doubtful = self.doubtful, []
        return [
            (
                doubtful,
                outcome_of(doubtful.fault, trusted=self._accepted, doubts=doubtful.entry.doubts),
            )
            for doubtful in self._decided
        ]

    def gravest(self) -> CredentialsFault | None:
        """The fault to report after :meth:`decide`: a certain one, if there is one."""
        faults = [doubtful.fault for doubtful in self._decided]
        return next((fault for fault in faults if fault.certain), faults[0] if faults else None)
