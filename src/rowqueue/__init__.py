"""Rows in a Snowflake table, delivered to an HTTPS service over mutual TLS, with the answer written back.

Imports go one way, from left to right:

    lambda_poller/index.py  ->  poller    |
    container/processor.py  ->  processor | -> sql, settings, aws, observability -> lifecycle, environment
                                             -> contract, errors

The entry points also build ``warehouse`` and ``credentials``. ``poller`` and ``processor`` do not import each other.
Nothing here imports ``rowqueue_local``, the lab; ``cli`` finds its commands as entry points.
"""

__version__ = "0.1.0"
