"""Finds a folder with the AWS provider that the lock file names, so that Terraform needs no registry.

The order of the search: ``TF_PLUGIN_MIRROR``; a ``filesystem_mirror`` in Terraform's CLI configuration file;
``TF_PLUGIN_CACHE_DIR``; Terraform's implied mirror folders; folders in which people install software by hand. To create
one, run ``terraform -chdir=terraform providers mirror FOLDER``.
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
    """TF_PLUGIN_MIRROR names a folder without the provider. Other folders are not searched then."""


def locked_version(lock_file):
    """The provider's version, from the text of a dependency lock file."""
    return re.search(r'provider "[^"]+/hashicorp/aws" \{\s*version\s*=\s*"([^"]+)"', lock_file)[1]


def this_platform():
    """Terraform's name for this platform, like linux_amd64."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}_{_ARCHITECTURES.get(machine, machine)}"


def provider_mirror(environ, *, version, on, home, searched=SEARCHED):
    """The folder for ``terraform init -plugin-dir``, or None.

    Args:
        environ: the environment variables.
        version: of the provider.
        on: the platform.
        home: the user's home directory.
        searched: folders to search last, with their subfolders.

    Raises:
        MirrorError: TF_PLUGIN_MIRROR names a folder without the provider.
    """
    if named := environ.get("TF_PLUGIN_MIRROR"):
        if _has_provider(Path(named), version, on):
            return Path(named)
        raise MirrorError(
            f"TF_PLUGIN_MIRROR: expected {REGISTRY}/hashicorp/aws {version} for {on} below it, got {named}"
        )
    places = (*_configured(environ, home), *_implied(environ, home), *_found(searched))
    return next((place for place in places if _has_provider(place, version, on)), None)


def _has_provider(folder, version, on):
    """Whether the folder has the provider, unpacked or as the archive of ``terraform providers mirror``."""
    provider = folder / REGISTRY / "hashicorp" / "aws"
    return (provider / version / on).is_dir() or (provider / f"terraform-provider-aws_{version}_{on}.zip").is_file()


def _configured(environ, home):
    """The folders in Terraform's own configuration."""
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
    """Folders that contain a folder with the registry's name, the shallow ones first."""
    unread = deque((Path(root), 0) for root in roots)
    for _ in range(_MOST_FOLDERS):
        if not unread:
            return
        folder, depth = unread.popleft()
        inside = _folders(folder)
        if folder / REGISTRY in inside:
            yield folder
        elif depth < _DEEPEST:
            unread.extend((path, depth + 1) for path in inside)


def _folders(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
