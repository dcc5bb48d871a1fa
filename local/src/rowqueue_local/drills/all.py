"""All drills by name."""

from __future__ import annotations

from rowqueue_local.drills import Drill, burst, cancel, certificate, hung, idle, kill, partner, sigterm, storm, upgrade

_DRILLS = (partner, sigterm, cancel, certificate, burst, kill, hung, idle, upgrade, storm)
ALL: dict[str, Drill] = {module.DRILL.name: module.DRILL for module in _DRILLS}
