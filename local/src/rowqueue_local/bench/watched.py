"""Our processor, with a watch on its event loop: how long does one step block all others?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from rowqueue_local.bench import ours

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rowqueue.processor.run import RunReport
    from rowqueue_local.bench.work import Job, Stretch

_BEAT_S = 0.01


def prepare(job: Job) -> Callable[[], Stretch]:
    """As :func:`rowqueue_local.bench.ours.prepare`; the figures have the longest block of the event loop."""
    gaps = [0.0]

    def drive(processor: Coroutine[object, object, RunReport]) -> RunReport:
        return asyncio.run(_watched(processor, gaps))

    run = ours.prepare(job, drive=drive)
    return lambda: replace(run(), longest_block_s=max(gaps))


async def _watched(processor: Coroutine[object, object, RunReport], gaps: list[float]) -> RunReport:
    beating = asyncio.create_task(_beat(gaps))
    try:
        return await processor
    finally:
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating


async def _beat(gaps: list[float]) -> None:
    """Sleep for a moment, again and again. What a sleep takes longer, the loop was blocked."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(_BEAT_S)
        gaps.append(time.monotonic() - began - _BEAT_S)
