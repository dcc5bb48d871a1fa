"""Zip a folder for Lambda: ``zip_folder.py FOLDER ZIP``. Equal contents give equal bytes."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

# AWS, "Lambda quotas": the size of a zip that is uploaded directly, and its unpacked size, layers included.
MOST_ZIPPED = 50 * 2**20
MOST_UNZIPPED = 250 * 2**20

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_READABLE = 0o644  # the user that runs the function does not own the files


def write(folder: Path, archive: Path) -> int:
    """Zip every file below ``folder`` in the order of the names; returns the unpacked size in bytes."""
    total = 0
    partial = archive.with_name(f"{archive.name}.partial")
    with zipfile.ZipFile(partial, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                entry.create_system = 3  # Unix, wherever it is built
                entry.external_attr = _READABLE << 16
                content = path.read_bytes()
                file.writestr(entry, content, zipfile.ZIP_DEFLATED, 6)
                total += len(content)
    partial.replace(archive)
    return total


def main(folder: str, archive: str, *, most_zipped: int = MOST_ZIPPED, most_unzipped: int = MOST_UNZIPPED) -> int:
    """Zip, print the sizes, and fail if Lambda would refuse the zip; the limits are in bytes."""
    path = Path(archive)
    unzipped = write(Path(folder), path)
    zipped = path.stat().st_size
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path}\nsha256 {digest}\nzipped {zipped / 2**20:.1f} MiB, unzipped {unzipped / 2**20:.1f} MiB")
    for size, most, what in ((zipped, most_zipped, "zipped"), (unzipped, most_unzipped, "unzipped")):
        if size > most:
            print(f"too large for Lambda: expected at most {most / 2**20:g} MiB {what}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
