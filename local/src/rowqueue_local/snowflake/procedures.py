"""Stored procedures of the Snowflake stand-in: what CREATE PROCEDURE and CALL say, and which procedures there are.

The engine has none. This is the part of Snowflake Scripting that a queue needs: variables, DML and SELECT INTO with
``:name``, transactions, calls, nested blocks, and EXCEPTION WHEN OTHER. Anything else is refused when the procedure is
created. Snowflake would find some of it only when the statement runs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rowqueue_local.snowflake.failures import UNSUPPORTED, Failure
from rowqueue_local.snowflake.statements import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CREATE: Final = re.compile(
    r"""\s* CREATE \s+ (?P<replace>OR\s+REPLACE\s+)? PROCEDURE \s+ (?P<name>[\w.$]+) \s* \( (?P<parameters>.*?) \) \s*
        (?P<options> (?:COPY\s+GRANTS\s+)? RETURNS\b .*? \b LANGUAGE\s+SQL \b .*? )
        \b AS \s* \$\$ (?P<body>.*) \$\$ \s* ;? \s*""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_CALL: Final = re.compile(r"\s*CALL\s+(?P<name>[\w.$]+)\s*\((?P<arguments>.*)\)\s*;?\s*", re.DOTALL | re.IGNORECASE)
_INTO: Final = re.compile(r"\bINTO\s+(:\w+(?:\s*,\s*:\w+)*)", re.IGNORECASE)
_BOUND: Final = re.compile(r"(?P<skip>'(?:[^'\\]|''|\\.)*'|\"[^\"]*\")|(?<![\w\])\"':]):(?P<name>[A-Za-z_]\w*)")
_CALLER: Final = re.compile(r"\bEXECUTE\s+AS\s+CALLER\b", re.IGNORECASE)
_SQL: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})

ProcedureKey = tuple[str, str, str, int]
"""Database, schema, name, and number of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One statement of a procedure.

    Attributes:
        kind: ``sql``, ``call``, ``set``, ``return``, ``begin``, ``commit``, ``rollback``, ``raise`` or ``block``.
        text: the SQL, or the expression of ``set`` and ``return``.
        names: the variables that get the result.
        block: the nested block.
        line: where it begins in the body, from 1.
        position: where it begins in its line, from 0.
    """

    kind: str
    text: str = ""
    names: tuple[str, ...] = ()
    block: Block | None = None
    line: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``[DECLARE ...] BEGIN ... [EXCEPTION WHEN OTHER THEN ...] END``.

    Attributes:
        instructions: its statements; the variables that DECLARE gives a value come first.
        handler: the statements of the exception handler; ``None`` without one.
        variables: the names that it declares.
    """

    instructions: tuple[Instruction, ...]
    handler: tuple[Instruction, ...] | None
    variables: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """A procedure as CREATE PROCEDURE describes it; all names in upper case."""

    name: str
    parameters: tuple[str, ...]
    block: Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a CALL says: the parts of the procedure's name in upper case, and the text of its arguments."""

    name: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def query(self) -> str:
        """The query whose one row are the values of the arguments."""
        return f"SELECT {', '.join(self.arguments) or 'NULL'}"


class Procedures:
    """The procedures of an account.

    Args:
        path: the file that keeps them between two runs of the stand-in; ``None`` keeps them in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._texts: dict[ProcedureKey, str] = {}
        self._parsed: dict[ProcedureKey, Procedure] = {}
        if path is not None and path.exists():
            for *key, text in json.loads(path.read_text(encoding="utf-8")):
                self._add((key[0], key[1], key[2], key[3]), text)

    def create(self, text: str, place: tuple[str, str]) -> str:
        """Create a procedure or replace it; returns its name.

        Args:
            text: the statement.
            place: the database and the schema of an unqualified name.
        """
        name, procedure, replaces = _created(text)
        key = _key(name, place, len(procedure.parameters))
        if key in self._texts and not replaces:
            raise Failure(2002, "42710", f"SQL compilation error:\nObject '{procedure.name}' already exists.")
        self._add(key, text)
        if self._path is not None:
            kept = [[*key, text] for key, text in self._texts.items()]
            self._path.write_text(json.dumps(kept), encoding="utf-8")
        return procedure.name

    def find(self, called: Called, place: tuple[str, str]) -> tuple[Procedure, tuple[str, str]]:
        """The procedure that a CALL means, with its database and schema.

        Raises:
            Failure: there is none.
        """
        key = _key(called.name, place, len(called.arguments))
        if key not in self._parsed:
            name = ".".join(called.name)
            raise Failure(2141, "42601", f"SQL compilation error:\nUnknown user-defined function {name}.")
        return self._parsed[key], key[:2]

    def _add(self, key: ProcedureKey, text: str) -> None:
        self._texts[key] = text
        self._parsed[key] = _created(text)[1]


def called(text: str) -> Called:
    """Read a CALL."""
    found = _CALL.fullmatch(text)
    if found is None:
        raise _unsupported("this form of CALL")
    return Called(name=tuple(found["name"].upper().split(".")), arguments=tuple(_list(found["arguments"])))


def with_values(text: str, values: dict[str, object]) -> str:
    """A statement with the values of its variables, which are written ``:name``, as literals."""

    def literal(match: re.Match[str]) -> str:
        if match["skip"]:
            return match[0]
        if match["name"].upper() not in values:
            raise Failure(904, "42000", f"SQL compilation error:\ninvalid identifier '{match['name']}'")
        return rendered_literal(values[match["name"].upper()])

    return _BOUND.sub(literal, text)


def expression_with_values(text: str, values: dict[str, object]) -> str:
    """An expression of Snowflake Scripting with the values of its variables, with or without a colon before them."""
    tokens = [(match.lastgroup, match[0]) for match in TOKEN.finditer(with_values(text, values))]
    written = []
    for number, (group, token) in enumerate(tokens):
        before = tokens[number - 1][1] if number else ""
        is_variable = group == "word" and token.upper() in values and before not in {".", ":"}
        written.append(rendered_literal(values[token.upper()]) if is_variable else token)
    return "".join(written)


def rendered_literal(value: object) -> str:
    """A value as a literal of Snowflake."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).upper()
        case str():
            escaped = value.replace("\\", "\\\\").replace("'", "''")
            return f"'{escaped}'"
        case _:
            return str(value)


def _key(name: tuple[str, ...], place: tuple[str, str], parameters: int) -> ProcedureKey:
    database, schema, short = (*place, *name)[-3:]
    return database, schema, short, parameters


def _created(text: str) -> tuple[tuple[str, ...], Procedure, bool]:
    begins = next((token.start() for token in TOKEN.finditer(text) if token.lastgroup != "blank"), 0)
    found = _CREATE.fullmatch(text, begins)
    if found is None:
        raise _unsupported("a procedure without LANGUAGE SQL and a body in $$")
    if _CALLER.search(found["options"]):
        raise _unsupported("a procedure with the rights of its caller")
    name = tuple(found["name"].upper().split("."))
    parameters = tuple(part.split()[0].upper() for part in _list(found["parameters"]))
    block = _BodyReader(found["body"]).body()
    return name, Procedure(name=name[-1], parameters=parameters, block=block), bool(found["replace"])


def _list(text: str) -> Iterator[str]:
    """The parts of ``text`` between the commas outside brackets."""
    depth, part = 0, ""
    for match in TOKEN.finditer(text):
        depth += (match[0] == "(") - (match[0] == ")")
        if match[0] == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += match[0]
    if part.strip():
        yield part.strip()


def _unsupported(what: str) -> Failure:
    return Failure(UNSUPPORTED, "58000", f"[local stand-in] {what} is not supported")


class _BodyReader:
    """Reads the body of a procedure, token by token."""

    def __init__(self, body: str) -> None:
        self._body = body
        self._tokens = [match for match in TOKEN.finditer(body) if match.lastgroup != "blank"]
        self._next = 0

    def body(self) -> Block:
        block = self._block()
        if self._next < len(self._tokens):
            raise self._unexpected("text after the last END")
        return block

    def _word(self, ahead: int = 0) -> str:
        number = self._next + ahead
        return self._tokens[number][0].upper() if number < len(self._tokens) else ""

    def _take(self, *words: str) -> None:
        for word in words:
            if self._word() != word:
                raise self._unexpected(f"{self._word() or 'the end'} instead of {word}")
            self._next += 1

    def _block(self) -> Block:
        declared: list[Instruction] = []
        variables: list[str] = []
        if self._word() == "DECLARE":
            self._take("DECLARE")
            while self._word() != "BEGIN":
                variables.append(self._word())
                declared += self._declaration()
        self._take("BEGIN")
        instructions = self._instructions()
        handler = None
        if self._word() == "EXCEPTION":
            self._take("EXCEPTION", "WHEN", "OTHER", "THEN")
            handler = self._instructions()
        self._take("END")
        if self._word() == ";":
            self._take(";")
        return Block(instructions=(*declared, *instructions), handler=handler, variables=frozenset(variables))

    def _declaration(self) -> list[Instruction]:
        start = self._next
        text = self._rest_of_statement()
        name, _, value = re.fullmatch(r"(\w+)\s+(.*?)(?:\s+(?:DEFAULT|:=)\s+(.+))?", text, re.DOTALL).groups()  # type: ignore[union-attr]
        return [self._at(start, kind="set", names=(name.upper(),), text=value or "NULL")]

    def _instructions(self) -> tuple[Instruction, ...]:
        found = []
        while self._word() not in {"END", "EXCEPTION", ""}:
            found.append(self._instruction())
        return tuple(found)

    def _instruction(self) -> Instruction:
        start, word = self._next, self._word()
        if word == "DECLARE" or (word == "BEGIN" and self._word(1) not in {"TRANSACTION", ";"}):
            return self._at(start, kind="block", block=self._block())
        if self._word(1) == ":" and self._word(2) == "=":
            name, value = self._rest_of_statement().split(":=", 1)
            return self._at(start, kind="set", names=(name.strip().upper(),), text=value.strip())
        text = self._rest_of_statement()
        if text.upper() in {"BEGIN TRANSACTION", "COMMIT", "ROLLBACK", "RAISE"}:
            return self._at(start, kind=word.lower())
        if word == "RETURN":
            return self._at(start, kind="return", text=text[len("RETURN") :].strip())
        if word == "CALL":
            return self._at(start, kind="call", text=text)
        if word in _SQL:
            return self._sql(start, text)
        raise self._unexpected(f"{word} in a procedure")

    def _sql(self, start: int, text: str) -> Instruction:
        into = _INTO.search(text) if self._tokens[start][0].upper() == "SELECT" else None
        if into is None:
            return self._at(start, kind="sql", text=text)
        names = tuple(name.strip().removeprefix(":").upper() for name in into[1].split(","))
        return self._at(start, kind="sql", text=text[: into.start()] + text[into.end() :], names=names)

    def _rest_of_statement(self) -> str:
        """The text until the next semicolon, which is taken too."""
        first = self._tokens[self._next]
        while self._word() != ";":
            if not self._word():
                raise self._unexpected("a statement without a semicolon")
            self._next += 1
        text = self._body[first.start() : self._tokens[self._next].start()]
        self._take(";")
        return text.strip()

    def _at(
        self, start: int, *, kind: str, text: str = "", names: tuple[str, ...] = (), block: Block | None = None
    ) -> Instruction:
        before = self._body[: self._tokens[start].start()]
        line, position = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1)
        return Instruction(kind=kind, text=text, names=names, block=block, line=line, position=position)

    def _unexpected(self, what: str) -> Failure:
        return _unsupported(what)
