"""Last in this folder: every statement that the tests before it sent to the stand-in, Snowflake would accept too."""

from __future__ import annotations

import json
import urllib.request

from snowflake_rules import findings

LONGEST_KEPT = 20_000  # the stand-in keeps the beginning of longer texts, and half a statement does not parse


def sent_to(stand_in):
    with urllib.request.urlopen(f"{stand_in}/_local/statements", timeout=10) as answer:
        return [statement["text"] for statement in json.load(answer)]


def test_no_test_has_sent_a_statement_that_snowflake_would_refuse(stand_in):
    refused = {text: [str(finding) for finding in findings(text)] for text in sent_to(stand_in)}
    assert not {text: found for text, found in refused.items() if found}


def test_no_statement_was_too_long_to_be_looked_at(stand_in):
    assert not [text[:100] for text in sent_to(stand_in) if len(text) >= LONGEST_KEPT]
