"""Parts of a task for programs that run a processor themselves: its entry point, and its TLS context."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from rowqueue.processor import certificates
from rowqueue_local.stack import REPOSITORY

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from types import ModuleType


def entry_point() -> ModuleType:
    """container/processor.py, which belongs to no package."""
    spec = spec_from_file_location("processor", REPOSITORY / "container" / "processor.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tls(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The TLS context that a processor makes from the certificates in its bucket."""
    files = ("PARTNER_CLIENT_CERTIFICATE", "PARTNER_CLIENT_KEY", "PARTNER_CA")
    names = (certificates.CLIENT, certificates.KEY, certificates.CA)
    objects = {name: Path(environ[file]).read_bytes() for name, file in zip(names, files, strict=True)}
    return certificates.ssl_context(objects, now=datetime.now(UTC))
