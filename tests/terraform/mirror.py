"""Where this machine keeps the AWS provider that the lock file names, so that Terraform needs no registry.

Looked at in this order: ``TF_PLUGIN_MIRROR``; a ``filesystem_mirror`` of Terraform's CLI configuration file;
``TF_PLUGIN_CACHE_DIR``; Terraform's implied mirror folders; and a short search where software is put by hand. To make
one: ``terraform -chdir=terraform providers mirror FOLDER``.
"""

from __future__ import annotations

import os
import platform
import re
from collections import deque
from pathlib import Path

REGISTRY = "registry.terraform.io"
SEARCHED = ("/opt", "/usr/local", "/srv", "/var/lib")
_DEEPEST = 3
_MOST_FOLDERS = 5_000
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class MirrorError(Exception):
    """TF_PLUGIN_MIRROR names a folder without the provider; it was meant, so nothing else is looked for."""


def locked_version(lock_file):
    """The provider's version, from the text of a dependency lock file."""
    return re.search(r'provider "[^"]+/hashicorp/aws" \{\s*version\s*=\s*"([^"]+)"', lock_file)[1]


def this_platform():
    """Terraform's word for this machine, like linux_amd64."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{_ARCHITECTURES.get(machine, machine)}"


def provider_mirror(environ, *, version, on, home, searched=SEARCHED):
    """The folder that ``terraform init -plugin-dir`` wants, or None.

    Args:
        environ: the environment.
        version: the provider's.
        on: the platform.
        home: the user's home directory.
        searched: folders below which is searched at last.

    Raises:
        MirrorError: see there.
    """
    if named := environ.get("TF_PLUGIN_MIRROR"):
        if _holds(Path(named), version, on):
            return Path(named)
        raise MirrorError(
            f"TF_PLUGIN_MIRROR: expected {REGISTRY}/hashicorp/aws {version} for {on} below it, got {named}"
        )
    places = (*_configured(environ, home), *_implied(environ, home), *_found(searched))
    return next((place for place in places if _holds(place, version, on)), None)


def _holds(folder, version, on):
    """Whether the provider is there, unpacked or as the archive that ``terraform providers mirror`` leaves."""
    provider = folder / REGISTRY / "hashicorp" / "aws"
    return (provider / version / on).is_dir() or (provider / f"terraform-provider-aws_{version}_{on}.zip").is_file()


def _configured(environ, home):
    """What Terraform itself was told."""
    configuration = Path(environ.get("TF_CLI_CONFIG_FILE") or home / ".terraformrc")
    if configuration.is_file():
        for block in re.findall(r"filesystem_mirror\s*\{(.*?)\}", configuration.read_text(encoding="utf-8"), re.DOTALL):
            yield from (Path(path) for path in re.findall(r'^\s*path\s*=\s*"([^"]+)"', block, re.MULTILINE))
    if cache := environ.get("TF_PLUGIN_CACHE_DIR"):
        yield Path(cache)


def _implied(environ, home):
    """HashiCorp, "CLI configuration", implied local mirror directories; on macOS one more."""
    yield home / ".terraform.d" / "plugins"
    yield home / "Library" / "Application Support" / "io.terraform" / "plugins"
    shared = environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for data in (environ.get("XDG_DATA_HOME") or str(home / ".local" / "share"), *shared.split(":")):
        yield Path(data) / "terraform" / "plugins"


def _found(roots):
    """Folders with a folder of the registry's name, the shallow ones first."""
    waiting = deque((Path(root), 0) for root in roots)
    for _ in range(_MOST_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.popleft()
        inside = _folders(folder)
        if folder / REGISTRY in inside:
            yield folder
        elif depth < _DEEPEST:
            waiting.extend((path, depth + 1) for path in inside)


def _folders(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
