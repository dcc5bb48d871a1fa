"""What the Snowflake stand-in has to know about a statement before it runs it.

It reads only the first words, which tell the kind of the statement and the table that it locks. A full parse would
take longer than many statements, and the engine does one anyway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOKEN: Final = re.compile(
    r"""
      (?P<blank> \s+ | --[^\n]* | //[^\n]* | /\*.*?\*/ )
    | (?P<name>   "(?:[^"]|"")*" )
    | (?P<string> '(?:[^'\\]|''|\\.)*' | \$\$.*?\$\$ )
    | (?P<word>   [^\W\d][\w$]* )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)
_MANY_ENOUGH = 48  # number of tokens to read; enough for ALTER SESSION with a dozen parameters

_KEYWORDS: Final = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY", "BEGIN", "COMMIT", "ROLLBACK"}
    | {"CREATE", "ALTER", "DROP", "UNDROP", "COMMENT", "GRANT", "REVOKE", "USE", "SET", "UNSET", "SHOW", "DESCRIBE"}
    | {"EXECUTE", "CALL", "DECLARE"}
)
_SYNONYMS: Final = {"WITH": "SELECT", "START": "BEGIN", "DESC": "DESCRIBE"}
_TRANSACTION_CONTROL: Final = frozenset({"begin", "commit", "rollback"})
_CHANGES: Final = frozenset({"insert", "update", "delete", "merge", "copy"})
# Each of these commits an open transaction and is its own transaction
# (docs.snowflake.com/en/sql-reference/transactions#ddl).
_DEFINITIONS: Final = frozenset({"create", "alter", "drop", "undrop", "truncate", "comment", "grant", "revoke"})
_OBJECT_VERBS: Final = frozenset({"create", "alter", "drop", "undrop", "execute"})

_OBJECT_ADJECTIVES: Final = frozenset(
    {"OR", "REPLACE", "IF", "EXISTS", "NOT", "TEMPORARY", "TEMP", "TRANSIENT", "VOLATILE", "LOCAL", "GLOBAL", "SECURE"}
    | {"RECURSIVE", "EXTERNAL", "AGGREGATE"}
)
_UNKNOWN_OBJECTS: Final = frozenset({"STREAM", "TASK", "ALERT", "FUNCTION", "PIPE", "DYNAMIC TABLE"})
_PROCEDURE: Final = "PROCEDURE"
_ACCOUNT_OBJECTS: Final = frozenset(
    {"WAREHOUSE", "ROLE", "DATABASE ROLE", "USER", "RESOURCE MONITOR"}
    | {"NETWORK POLICY", "NETWORK RULE", "AUTHENTICATION POLICY", "SESSION POLICY"}
)
_TABLE_PROPERTIES: Final = frozenset({"CHANGE_TRACKING", "DATA_RETENTION_TIME_IN_DAYS"})
_SESSION_CHOICES: Final = frozenset({"ROLE", "WAREHOUSE", "SECONDARY ROLES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFacts:
    """Facts from the first words of a statement.

    Attributes:
        kind: its leading keyword in lower case (``with`` counts as ``select``, ``start`` as ``begin``), or ``other``.
        locks: the parts of the name of the table that it locks, in upper case, as the engine compares them; empty if
            it locks none.
        changes_rows: whether it belongs to a transaction.
        defines: whether it is DDL, which commits an open transaction first.
        defines_procedure: whether it is a CREATE PROCEDURE, which the engine does not know.
        autocommit: the value that it sets AUTOCOMMIT to, if it does.
        parameters: the session parameters that it sets, as texts; ``None`` for one that it resets.
        for_engine: whether the engine must see it. Others control the transaction, or have no effect here.
        refusal: why the stand-in does not run it.
    """

    kind: str
    locks: tuple[str, ...] = ()
    changes_rows: bool = False
    defines: bool = False
    defines_procedure: bool = False
    autocommit: bool | None = None
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    for_engine: bool = True
    refusal: str | None = None


def read(text: str) -> StatementFacts:
    """Read the first words of a statement."""
    tokens = _leading_tokens(text)
    kind = _kind(tokens)
    if kind == "alter" and tokens[1:2] == ["SESSION"]:
        return StatementFacts(
            kind=kind,
            autocommit=_autocommit(tokens),
            parameters=_parameters(tokens[2:]),
            for_engine=False,
            refusal=_refusal(kind, tokens),
        )
    return StatementFacts(
        kind=kind,
        locks=_locked_table(kind, tokens),
        changes_rows=kind in _CHANGES,
        defines=kind in _DEFINITIONS,
        defines_procedure=kind == "create" and _PROCEDURE in _object_type(tokens),
        for_engine=not (kind in _TRANSACTION_CONTROL or _has_nothing_to_act_on(kind, tokens)),
        refusal=_refusal(kind, tokens),
    )


def tokens_of(text: str) -> Iterator[re.Match[str]]:
    """The tokens of a text; ``lastgroup`` is blank (also for a comment), name, string, word or other."""
    return TOKEN.finditer(text)


def is_one_block(text: str) -> bool:
    """Whether the semicolons of a text may belong to one scripting block or to the body of a procedure."""
    tokens = _leading_tokens(text)
    kind = _kind(tokens)
    if kind == "create":
        return not {"PROCEDURE", "FUNCTION", "TASK"}.isdisjoint(_object_type(tokens))
    return kind == "declare" or (kind == "begin" and not _begins_transaction(tokens))


def words_of(text: str) -> Iterator[str]:
    """The tokens of a statement without comments; words are in upper case."""
    for match in tokens_of(text):
        if match.lastgroup != "blank":
            yield match[0].upper() if match.lastgroup == "word" else match[0]


def text_of(token: str) -> str:
    """The text that a token in quotes or between dollars stands for."""
    return token[2:-2] if token.startswith("$$") else token[1:-1].replace("''", "'").replace("\\'", "'")


def unquoted(name: str) -> str:
    """A name without its quotes, in upper case."""
    return name[1:-1].replace('""', '"').upper() if name.startswith('"') else name


def _leading_tokens(text: str) -> list[str]:
    """The first tokens without comments and opening brackets; words are in upper case."""
    found = list(islice(words_of(text), _MANY_ENOUGH))
    while found and found[0] == "(":
        del found[0]
    return found


def _kind(tokens: Sequence[str]) -> str:
    keyword = _SYNONYMS.get(tokens[0], tokens[0]) if tokens else ""
    return keyword.lower() if keyword in _KEYWORDS else "other"


def _locked_table(kind: str, tokens: Sequence[str]) -> tuple[str, ...]:
    match kind, *tokens[1:2]:
        case ["update" | "delete" | "merge" | "truncate", *_] | ["insert", "OVERWRITE"]:
            noise = {"OVERWRITE", "FROM", "INTO", "TABLE", "IF", "EXISTS"}
            start = next((i for i, token in enumerate(tokens[1:], 1) if token not in noise), len(tokens))
            return _name(tokens[start:])
        case _:
            return ()


def _name(tokens: Sequence[str]) -> tuple[str, ...]:
    """The parts of the dotted name at the beginning of ``tokens``."""
    end = 1
    while tokens[end : end + 1] == ["."]:
        end += 2
    return tuple(unquoted(token) for token in tokens[:end:2])


def _object_type(tokens: Sequence[str]) -> set[str]:
    """The type of the object as one word and as two, for ``CREATE OR REPLACE NETWORK RULE``."""
    words = [token for token in tokens[1:] if token not in _OBJECT_ADJECTIVES]
    return {" ".join(words[:1]), " ".join(words[:2])}


def _has_nothing_to_act_on(kind: str, tokens: Sequence[str]) -> bool:
    if kind in {"grant", "revoke"}:
        return True
    if kind == "use":
        return not _SESSION_CHOICES.isdisjoint(_object_type(tokens))
    if tokens[:2] == ["ALTER", "TABLE"] and "SET" in tokens:
        return not _TABLE_PROPERTIES.isdisjoint(tokens[tokens.index("SET") + 1 :][:1])
    return kind in _OBJECT_VERBS and not _ACCOUNT_OBJECTS.isdisjoint(_object_type(tokens))


def _autocommit(tokens: Sequence[str]) -> bool | None:
    if "AUTOCOMMIT" not in tokens:
        return None
    value = tokens[tokens.index("AUTOCOMMIT") + 1 :][1:2]
    return tokens[2:3] == ["UNSET"] or value == ["TRUE"]


def _parameters(tokens: Sequence[str]) -> dict[str, str | None]:
    if tokens[:1] == ["UNSET"]:
        return {token: None for token in tokens[1:] if token not in {",", ";"}}
    signs = [at for at, sign in enumerate(tokens[:-1]) if sign == "=" and at > 0]
    return {tokens[at - 1]: tokens[at + 1].strip("'") for at in signs}


def _begins_transaction(tokens: Sequence[str]) -> bool:
    return tokens[1:2] in ([], [";"], ["TRANSACTION"], ["WORK"], ["NAME"])


def _refusal(kind: str, tokens: Sequence[str]) -> str | None:
    if tokens[1:3] == ["OR", "ALTER"]:
        return "CREATE OR ALTER is refused: the engine would replace the object and drop its rows"
    if kind in _OBJECT_VERBS and (unknown := _unknown_objects(kind) & _object_type(tokens)):
        return f"{min(unknown)} is not supported: the engine has none"
    is_block = kind == "begin" and not _begins_transaction(tokens)
    if is_block or kind == "declare" or tokens[:2] == ["EXECUTE", "IMMEDIATE"]:
        return "scripting is supported in procedures only"
    return None


def _unknown_objects(kind: str) -> frozenset[str]:
    """What the stand-in does not have. It has procedures, but they are only created, replaced and called."""
    return _UNKNOWN_OBJECTS if kind == "create" else _UNKNOWN_OBJECTS | {_PROCEDURE}
