"""The Snowflake stand-in: fakesnow as the engine, with table locks, a limit of statements that wait, and plain errors.

``http`` implements the driver's protocol. ``account`` has the sessions and the locks between them. Only ``engine``,
``repairs`` and ``shortcuts`` import fakesnow.
"""
