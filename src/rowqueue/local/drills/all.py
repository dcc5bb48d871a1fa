"""The drills by name."""

from __future__ import annotations

from rowqueue.local.drills import Drill, certificate, partner, sigterm

ALL: dict[str, Drill] = {drill.name: drill for drill in (partner.DRILL, sigterm.DRILL, certificate.DRILL)}
