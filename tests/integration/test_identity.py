"""The name under which a processor claims, from the task's metadata endpoint."""

from __future__ import annotations

import pytest
from aiohttp import web

from rowqueue.errors import SettingsError
from rowqueue.processor.identity import processor_id
from rowqueue.settings import ProcessorSettings
from rowqueue_local.drills.servers import serving

SETTINGS = ProcessorSettings.from_env(
    {
        "ENVIRONMENT": "dev",
        "CERT_BUCKET": "certs",
        "EXTERNAL_SERVICE_URL": "https://127.0.0.1/",
        "SNOWFLAKE_ACCOUNT": "local",
        "SNOWFLAKE_WAREHOUSE": "WH",
        "SNOWFLAKE_DATABASE": "DB",
        "SNOWFLAKE_SCHEMA": "PUBLIC",
        "PROCESSOR_ID": "ignored-on-ecs",
    }
)
TASK = "0123456789abcdef0123456789abcdef"


def metadata(answer):
    async def task(_request):
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/v4/x/task", task)
    return serving(app, None)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_metadata_of_the_task_is_not_asked_for_through_a_proxy(monkeypatch, unused_tcp_port, variable):
    monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with metadata({"TaskARN": f"arn:aws:ecs:eu-west-1:1:task/cluster/{TASK}"}) as port:
        name = processor_id(SETTINGS, {"ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{port}/v4/x"})
    assert name == f"dev-{TASK}"


def test_an_endpoint_without_the_tasks_arn_is_refused_by_the_name_of_its_variable():
    with metadata({}) as port, pytest.raises(SettingsError, match=r"^ECS_CONTAINER_METADATA_URI_V4: expected"):
        processor_id(SETTINGS, {"ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{port}/v4/x"})
