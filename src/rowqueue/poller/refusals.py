"""What ECS gives as the reason for a task it did not start: whether the next tick may find it otherwise.

AWS documents no list of these texts for Fargate. They are the ones that people have met, gathered from AWS's own
articles and from public issue threads; an unknown one counts as lasting, so that it is raised and somebody sees it.
"""

from __future__ import annotations

import re

_PASSING = re.compile(
    r"capacity is unavailable"  # AWS re:Post, "Capacity is unavailable at this time"
    r"|limit on the number of (vcpus|tasks)"  # the quota of what runs at once: some of it will end
    r"|^resource:|^agent"
    r"|rate exceeded|throttl|limit exceeded|timed? ?out|try again",
    re.IGNORECASE,
)
# A quota below the size of a single task never lets one start.
_LASTING = re.compile(r"above your limit", re.IGNORECASE)


def is_passing(reason: str) -> bool:
    """Whether a reason in ``failures[]`` may be gone with the next tick: no capacity, a quota in use, a throttle."""
    return bool(_PASSING.search(reason)) and not _LASTING.search(reason)
