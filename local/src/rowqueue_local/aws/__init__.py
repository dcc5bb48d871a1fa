"""The AWS stand-in: moto, in which functions, Fargate tasks and schedules really run as local processes.

``inside_moto`` is the only importer of moto, ``__main__`` wires the rest. ``gateway`` answers what moto only pretends
to do; ``fargate*`` are tasks, ``lambda_*`` functions, ``scheduler`` fires schedules, ``event_bus`` carries the events
of tasks, ``notifications`` are what SNS sends. ``controls`` is the way in for drills: ``faults`` says what can go
wrong, ``injected`` holds what does, ``timeline`` what has been launched.
"""
