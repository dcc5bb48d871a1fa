"""The AWS stand-in: moto, extended so that functions, Fargate tasks and schedules run as local processes.

Only ``inside_moto`` imports moto; ``__main__`` wires the parts. ``gateway`` answers the requests that moto would only
pretend to execute. ``fargate*`` runs tasks, ``lambda_*`` functions, ``scheduler`` schedules. ``event_bus`` delivers the
events of tasks, ``notifications`` the messages of SNS. Drills use ``controls``: ``faults`` defines the faults,
``injected`` has those in force, ``timeline`` records launches.
"""
