"""Phrases that are hard to read, kept out of the whole tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = ("can not", "for ever", "so many", "told", "would not have us")
# A phrase may be broken over two lines, also of a comment.
PATTERN = re.compile(r"\b(" + "|".join(phrase.replace(" ", r"[\s#*>-]+") for phrase in BANNED) + r")\b", re.IGNORECASE)
GENERATED = {"build", "dist", "__pycache__"}


def texts():
    """The text files of the repository, without the folders that tools write: build, dist, and hidden ones."""
    tops = [
        path for path in ROOT.iterdir() if not path.name.startswith(".") or path.is_file() or path.name == ".github"
    ]
    for path in sorted(path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts[1:-1])
        if path.is_file() and not hidden and not GENERATED & set(parts) and path != Path(__file__):
            try:
                yield "/".join(parts), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_has_a_banned_phrase():
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts()
        for match in PATTERN.finditer(text)
    ]
    assert found == [], "say it in plain words"


@pytest.mark.parametrize(
    "text", ["it can not", "can\n  # not", "He was told.", "Waits for ever", "so many that", "would not\nhave us"]
)
def test_a_banned_phrase_is_found(text):
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["it cannot", "forever", "so much", "untold"])
def test_a_plain_phrase_is_not_found(text):
    assert not PATTERN.search(text)
