"""The Snowflake stand-in: fakesnow as the engine, behind what it lacks: table locks, a waiter limit, honest errors.

``http`` speaks the driver's protocol, ``account`` knows all sessions and the locks between them, ``engine``,
``repairs`` and ``shortcuts`` are the only importers of fakesnow.
"""
