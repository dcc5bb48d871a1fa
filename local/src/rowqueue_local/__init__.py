"""The embedded stack: stand-ins for Snowflake and AWS, a partner service, and the processes that run them."""
