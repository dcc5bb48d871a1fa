"""The AWS stand-in: moto, in which functions, Fargate tasks and schedules really run as local processes.

``__main__`` is the only importer of moto and wires the rest. ``gateway`` answers what moto only pretends to do;
``fargate*`` are tasks, ``lambda_*`` functions, ``scheduler`` fires schedules.
"""
