"""docs/settings.md and the table of settings in the README say what the settings classes say."""

from __future__ import annotations

import re
from pathlib import Path

import settings_page

ROOT = Path(__file__).parents[2]


def test_the_settings_in_the_readme_are_those_of_the_page():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z_]+)` \| \w+ \| (.*?) \| (.*?) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [row for row in listed if f"| `{row[0]}` | {row[1]} | {row[2]} |" not in page] == []
    assert len(listed) > 5


def test_the_page_of_settings_is_current():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page.render(), "make docs"
