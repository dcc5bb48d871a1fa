"""The machine that functions and tasks run on: their environment, their files, and their start."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from rowqueue_local import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}

# One attempt and no proxy, because the server is this process; a connection for every thread that may call at once.
_CLIENT_CONFIG = Config(retries={"total_max_attempts": 1}, proxies={}, max_pool_connections=50)


class Host:
    """What functions and tasks have in common.

    Args:
        endpoint_url: the URL of the stand-in.
        state_dir: the folder for everything that is written; leftovers of an earlier run are removed.
        injected: environment variables that the platform provides.
    """

    def __init__(self, *, endpoint_url: str, state_dir: Path, injected: Mapping[str, str]) -> None:
        self.endpoint_url = endpoint_url
        state_dir.mkdir(parents=True, exist_ok=True)
        self._state_dir = state_dir
        self._registry = state_dir / "pids"
        self._injected = {
            "AWS_ENDPOINT_URL": endpoint_url,
            **CREDENTIALS,
            "AWS_EC2_METADATA_DISABLED": "true",
            **injected,
        }
        # Linux kills a child when the *thread* that started it ends, and a request's thread ends with the request. So
        # one thread, which lives as long as the stand-in, starts every child.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
        self._session = boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        self._clients: dict[tuple[str, str], Any] = {}
        self._clients_lock = threading.Lock()
        processes.sweep(self._registry)
        shutil.rmtree(self._scratch_root, ignore_errors=True)

    @property
    def code_dir(self) -> Path:
        """The folder for the unpacked code of functions. It stays: names are hashes of the content."""
        return self._state_dir / "code"

    @property
    def _scratch_root(self) -> Path:
        return self._state_dir / "scratch"

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A temporary folder for one task or one execution environment."""
        scratch = self._scratch_root / name
        for directory in (scratch / "home", scratch / "tmp"):
            directory.mkdir(parents=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def environment(self, scratch: Path) -> dict[str, str]:
        """The basic environment variables of every child, without those of the developer's shell."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(scratch / "home"),
            "TMPDIR": str(scratch / "tmp"),
            **self._injected,
        }

    def spawn(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: int, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a child that ends with the stand-in; ``output`` takes its stdout and its stderr."""
        return self._starter.submit(
            processes.spawn,
            argv,
            registry=self._registry,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        ).result()

    def client(self, service: str, region: str) -> Any:
        """A boto3 client of the stand-in. Threads can share clients; making one is slow and not thread-safe."""
        with self._clients_lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._session.client(
                    service,  # type: ignore[call-overload]  # the name is known only at run time
                    region_name=region,
                    endpoint_url=self.endpoint_url,
                    config=_CLIENT_CONFIG,
                )
            return self._clients[service, region]

    def close(self) -> None:
        """End the thread that started the children. Call it when they have ended."""
        self._starter.shutdown()
