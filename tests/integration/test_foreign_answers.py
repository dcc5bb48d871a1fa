"""The real driver with a proxy in front of Snowflake that answers something of its own."""

from __future__ import annotations

import pytest
from aiohttp import web

from rowqueue.errors import WarehouseUnavailable
from rowqueue.settings import SnowflakeSettings
from rowqueue.sql import Statement
from rowqueue.warehouse import SnowflakeWarehouse
from rowqueue_local.drills.servers import serving

STATEMENT = Statement(name="look", text="SELECT ?", parameters=("value",))
LOGGED_IN = {"success": True, "data": {"token": "t", "masterToken": "m", "parameters": [], "sessionInfo": {}}}


def proxied(answer):
    """Snowflake's answer to the login, and the proxy's to everything else."""

    async def respond(request):
        return web.json_response(LOGGED_IN if request.path == "/session/v1/login-request" else answer)

    app = web.Application()
    app.router.add_post("/{path:.*}", respond)
    return serving(app, None)


@pytest.mark.parametrize(
    "answer", [[], None, "no", {}, {"success": True, "data": None}, {"success": True, "data": []}], ids=repr
)
def test_an_answer_that_is_not_snowflakes_means_that_snowflake_could_not_be_used(answer):
    with proxied(answer) as port:
        where = SnowflakeSettings.from_env(
            {
                "SNOWFLAKE_ACCOUNT": "local",
                "SNOWFLAKE_WAREHOUSE": "WH",
                "SNOWFLAKE_DATABASE": "DB",
                "SNOWFLAKE_SCHEMA": "PUBLIC",
                "SNOWFLAKE_HOST": "127.0.0.1",
                "SNOWFLAKE_PORT": str(port),
                "SNOWFLAKE_PROTOCOL": "http",
            }
        )
        warehouse = SnowflakeWarehouse(
            where, {"user": "me", "password": "x"}, query_tag="tag", network_patience_s=1, login_timeout_s=5
        )
        with pytest.raises(WarehouseUnavailable):
            warehouse.rows(STATEMENT, {"value": 7})
        warehouse.close()
