"""Words and phrases that are hard to read or have another meaning here, kept out of the whole tree."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED = (
    "can not",
    "for ever",
    "so many",
    "told",
    "would not have us",
    "shall",
    "anew",
    "of late",
    "cannot be asked",
    "could not be asked",
)
# A phrase may be part of a name, and may be broken over two lines, also of a comment.
PHRASES = "|".join(phrase.replace(" ", r"[\s#*>_-]+") for phrase in BANNED)
PATTERN = re.compile(rf"(?<![^\W_])({PHRASES})(?![^\W_])", re.IGNORECASE)

# A hold is a row of PROCESSING_HOLDS. Something else is contained, kept or in hand. The drills' JSON key stays.
HOLD = re.compile(
    r"""(?<![\w"])(?:held|holding)(?![\w"])|(?<![^\W_])holds[\s_]+(?:an?|the|its?|no|nothing|something|only)(?![^\W_])""",
    re.IGNORECASE,
)
# The queue is the table and its Protocol. Other first-in-first-out containers have other names.
OTHER_QUEUE = re.compile(r"\w*queue\w*(?:: [^=\n]+)? = (?:\w+\.)?(?:deque|(?:Simple|Lifo|Priority)?Queue)\(")

GENERATED = {"build", "dist", "__pycache__"}


def texts():
    """The text files of the repository, without the folders that tools write: build, dist, and hidden ones."""
    tops = [
        path for path in ROOT.iterdir() if not path.name.startswith(".") or path.is_file() or path.name == ".github"
    ]
    for path in sorted(path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts[1:-1])
        ours = path != Path(__file__) and path.name != "LICENSE"
        if path.is_file() and not hidden and not GENERATED & set(parts) and ours:
            try:
                yield "/".join(parts), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def found(pattern):
    """Each match in the tree with its place."""
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in texts()
        for match in pattern.finditer(text)
    ]


def test_no_file_has_a_banned_phrase():
    assert found(PATTERN) == [], "say it in plain words"


@pytest.mark.parametrize(
    "text",
    ["it can not", "can\n  # not", "He was told.", "Waits for ever", "so many that", "would not\nhave us", "_can_not_"],
)
def test_a_banned_phrase_is_found(text):
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["it cannot", "forever", "so much", "untold", "shallow", "renewal"])
def test_a_plain_phrase_is_not_found(text):
    assert not PATTERN.search(text)


def test_only_the_row_that_stops_claiming_is_a_hold():
    assert found(HOLD) == [], "say contains, has, keeps or in hand"


@pytest.mark.parametrize(
    "text", ["the zip holds no code", "what it held", "a worker holding one", "test_x_holds_the_y"]
)
def test_another_meaning_of_hold_is_found(text):
    assert HOLD.search(text)


@pytest.mark.parametrize("text", ["place a hold", "ended holds", '"held": kept', "held_until", "test_a_hold_ends"])
def test_a_hold_is_not_found(text):
    assert not HOLD.search(text)


def test_only_the_table_and_its_protocol_are_called_queue():
    assert found(OTHER_QUEUE) == [], "name it for what it contains"


@pytest.mark.parametrize("text", ["self._queue: Any = asyncio.Queue()", "a_queue = deque()", "queue = Queue()"])
def test_another_queue_is_found(text):
    assert OTHER_QUEUE.search(text)


@pytest.mark.parametrize("text", ["queue = PlayedQueue(3)", "queue = MemoryQueue(x)", "self._queue = queue"])
def test_the_queue_is_not_found(text):
    assert not OTHER_QUEUE.search(text)


def test_nothing_is_called_waiting():
    named = [
        f"{name}:{token.start[0]}"
        for name, text in texts()
        if name.endswith(".py")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and token.string.strip("_").lower() == "waiting"
    ]
    assert named == [], "say what waits, and for what"
