"""Rows in a Snowflake table, delivered to an HTTPS service over mutual TLS, with the answer written back.

Rooms, and who may import whom (each only what stands to its right):

    lambda_poller/index.py  ->  poller    |
    container/processor.py  ->  processor | -> store -> sql, lifecycle -> errors

The entry points also wire ``warehouse``, ``credentials``, ``settings`` and ``observability``.
``poller`` and ``processor`` never import each other. ``local`` (the embedded stack) may import
anything; nothing imports it but ``cli``.
"""

__version__ = "0.1.0"
