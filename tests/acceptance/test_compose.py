"""The commands of docker-compose.yml work together; here they run as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import snowflake.connector
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
HOSTS = ("snowflake", "partner", "aws")
PORTS = {"snowflake": 8084, "partner": 8443, "aws": 4566}


@pytest.fixture
def here(tmp_path, unused_tcp_port_factory):
    """A command of the file with hosts, ports and folders of this machine."""
    ports = {str(port): str(unused_tcp_port_factory()) for port in PORTS.values()}
    places = {"/certificates": f"{tmp_path}/certificates", "/repository": str(ROOT), "/state": f"{tmp_path}/state"}

    def translated(word):
        if word == "python":
            return sys.executable
        if word in HOSTS or word == "0.0.0.0":
            return "127.0.0.1"
        word = re.sub(rf"(//|=)({'|'.join(HOSTS)})(?=:|$)", r"\g<1>127.0.0.1", word).replace(
            '"python"', f'"{sys.executable}"'
        )
        for old, new in (ports | places).items():
            word = word.replace(old, new)
        return word

    def command(name):
        return [translated(word) for word in SERVICES[name]["command"]]

    return command, {name: int(ports[str(port)]) for name, port in PORTS.items()}


def started(command, running):
    environ = os.environ | {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def stop():
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()

    running.callback(stop)
    assert "ready" in json.loads(process.stdout.readline())


def test_the_commands_of_the_services_deliver_an_entry_together(here):
    command, ports = here
    with ExitStack() as running:
        subprocess.run(command("certificates"), check=True, timeout=30)
        for name in ("snowflake", "partner", "aws"):
            started(command(name), running)
        subprocess.run(command("deploy"), check=True, timeout=60)
        session = running.enter_context(
            snowflake.connector.connect(
                account="local",
                user="me",
                password="any",
                host="127.0.0.1",
                port=ports["snowflake"],
                protocol="http",
                database="QUEUE_DB",
                schema="PUBLIC",
                platform_detection_timeout_seconds=0.0,
            )
        )
        cursor = session.cursor()
        cursor.execute("""INSERT INTO PROCESSING_QUEUE (data) VALUES ('{"type": "composed"}')""")
        deadline = time.monotonic() + 60
        while (status := cursor.execute("SELECT status FROM PROCESSING_QUEUE").fetchone()[0]) != "completed":
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
