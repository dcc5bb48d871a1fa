"""One rule for each thing that real Snowflake refuses and the stand-in, which runs DuckDB, accepts.

A rule is a function that gets a parsed statement and yields its findings. The name of the function is the name of the
finding, and its docstring says what Snowflake does. A rule reads the tree where the tree keeps the original words, and
the tokens where the parser translates: ``json_extract`` becomes the same node as a Snowflake path, ``BLOB`` the same
type as ``BINARY``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import TokenType

from rowqueue_local.snowflake import alterations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlglot.tokens import Token

MOST_ROWS_IN_VALUES = 16_384


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions of Snowflake that our statements may use. Extend the list from Snowflake's function reference, never from
# what the stand-in accepts.
FUNCTIONS = _words(
    """
    ABS ANY_VALUE APPROX_PERCENTILE ARRAY_AGG ARRAY_CONSTRUCT ARRAY_CONTAINS ARRAY_SIZE AVG BITAND CAST CEIL COALESCE
    CONCAT CONTAINS CONVERT_TIMEZONE COUNT COUNT_IF CURRENT_ACCOUNT CURRENT_DATABASE CURRENT_ROLE CURRENT_SCHEMA
    CURRENT_SESSION CURRENT_USER CURRENT_VERSION CURRENT_WAREHOUSE DATEADD DATEDIFF DATE_PART DATE_TRUNC DECODE
    DENSE_RANK ENDSWITH EXTRACT FIRST_VALUE FLATTEN FLOOR GENERATOR GET GET_PATH GREATEST HASH IFF IFNULL
    IS_ROLE_IN_SESSION LAG LAST_VALUE LEAD LEAST LEFT LENGTH LISTAGG LOWER LPAD LTRIM MAX MAX_BY MEDIAN MIN MIN_BY MOD
    NULLIF NVL NVL2 OBJECT_CONSTRUCT OBJECT_INSERT OBJECT_KEYS PARSE_JSON PERCENTILE_CONT POSITION RANK REGEXP_COUNT
    REGEXP_LIKE REGEXP_REPLACE REGEXP_SUBSTR REPLACE RESULT_SCAN RIGHT ROUND ROW_NUMBER RPAD RTRIM SEQ4 SHA2 SPLIT
    SPLIT_PART STARTSWITH SUBSTR SUBSTRING SUM SYSDATE TIMEDIFF TIMESTAMPADD TIMESTAMPDIFF TO_CHAR TO_DATE TO_JSON
    TO_NUMBER TO_TIMESTAMP_NTZ TO_VARCHAR TO_VARIANT TRIM TRUNC TRY_CAST TRY_PARSE_JSON TRY_TO_NUMBER
    TRY_TO_TIMESTAMP_NTZ TYPEOF UPPER UUID_STRING ZEROIFNULL
    """
)
# Functions that Snowflake accepts in a VALUES clause. Others give "Invalid expression [...] in VALUES clause".
CONSTANT_FUNCTIONS = frozenset({"SYSDATE"})
TYPES = _words(
    """
    ARRAY BIGINT BINARY BOOLEAN CHAR DATE DATETIME DECIMAL DOUBLE FLOAT GEOGRAPHY GEOMETRY INT NUMBER NUMERIC OBJECT
    SMALLINT STRING TEXT TIME TIMESTAMP TIMESTAMPLTZ TIMESTAMPNTZ TIMESTAMPTZ TIMESTAMP_LTZ TIMESTAMP_NTZ
    TIMESTAMP_TZ TINYINT VARBINARY VARCHAR VARIANT VECTOR
    """
)
FOREIGN_SYNONYMS = frozenset({"BLOB", "BYTEA"})  # the parser turns them into BINARY
# Words that may precede a parenthesis and are neither functions nor types.
KEYWORDS = _words(
    """
    ALL AND ANY AS BY CASE CHECK CLUSTER COLUMN DISTINCT ELSE EXCEPT EXISTS FROM GROUP HAVING IDENTIFIER IDENTITY IN
    INPUT INSERT INTERSECT INTO JOIN KEY LATERAL MINUS NOT ON OR OVER QUALIFY SELECT SET TABLE THEN UNION UNIQUE USING
    VALUES VIEW WHEN WHERE WITH
    """
)
# Snowflake, "Reserved & limited keywords": words that DuckDB accepts as a column, table or alias, unlike Snowflake.
RESERVED = _words(
    """
    CONNECT CURRENT FOLLOWING GRANT ILIKE INCREMENT MINUS OF REGEXP REVOKE RLIKE ROW ROWS SAMPLE SOME START
    TABLESAMPLE TRIGGER TRY_CAST WHENEVER
    """
)
SESSION_CLOCKS = _words(
    "CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP GETDATE LOCALTIME LOCALTIMESTAMP NOW SYSTIMESTAMP TODAY"
)
# Privileges on objects, from Snowflake's page "Access control privileges"; only those that a queue may need.
PRIVILEGES = {
    "WAREHOUSE": _words("MODIFY MONITOR OPERATE USAGE"),
    "DATABASE": _words("MODIFY MONITOR USAGE"),
    "SCHEMA": _words("MODIFY MONITOR USAGE"),
    "TABLE": _words("DELETE INSERT REFERENCES SELECT TRUNCATE UPDATE"),
    "VIEW": _words("REFERENCES SELECT"),
    "PROCEDURE": _words("USAGE"),
    "ACCOUNT": frozenset({"EXECUTE MANAGED TASK", "EXECUTE TASK"}),
    "INTEGRATION": _words("USAGE"),
}
# Properties that CREATE and ALTER set, from Snowflake's pages of those commands.
PROPERTIES = {
    "ROLE": _words("COMMENT"),
    "USER": _words(
        """
        COMMENT DAYS_TO_EXPIRY DEFAULT_NAMESPACE DEFAULT_ROLE DEFAULT_SECONDARY_ROLES DEFAULT_WAREHOUSE DISABLED
        DISPLAY_NAME EMAIL FIRST_NAME LAST_NAME LOGIN_NAME MIDDLE_NAME MINS_TO_BYPASS_MFA MINS_TO_UNLOCK
        MUST_CHANGE_PASSWORD NETWORK_POLICY PASSWORD RSA_PUBLIC_KEY RSA_PUBLIC_KEY_2 TYPE WORKLOAD_IDENTITY
        """
    ),
    "WAREHOUSE": _words(
        """
        AUTO_RESUME AUTO_SUSPEND COMMENT ENABLE_QUERY_ACCELERATION GENERATION INITIALLY_SUSPENDED MAX_CLUSTER_COUNT
        MAX_CONCURRENCY_LEVEL MIN_CLUSTER_COUNT QUERY_ACCELERATION_MAX_SCALE_FACTOR RESOURCE_CONSTRAINT
        RESOURCE_MONITOR SCALING_POLICY STATEMENT_QUEUED_TIMEOUT_IN_SECONDS STATEMENT_TIMEOUT_IN_SECONDS
        WAREHOUSE_SIZE WAREHOUSE_TYPE
        """
    ),
}
# Snowflake, "Types of users": a service user has none of these.
OF_A_PERSON = _words("FIRST_NAME LAST_NAME MIDDLE_NAME MINS_TO_BYPASS_MFA MUST_CHANGE_PASSWORD PASSWORD")
# Operators of DuckDB and PostgreSQL. Snowflake's path operator is the colon.
FOREIGN_OPERATORS = frozenset(
    {TokenType.ARROW, TokenType.DARROW, TokenType.HASH_ARROW, TokenType.DHASH_ARROW, TokenType.AT_GT, TokenType.LT_AT}
)


@dataclass(frozen=True, slots=True)
class ParsedStatement:
    """One statement: its text, its tree and its tokens."""

    text: str
    tree: exp.Expression
    tokens: list[Token]

    def words(self) -> Iterator[Token]:
        """Each unquoted word, except after a dot or a colon, where columns and keys are."""
        yield from (token for before, token, _ in self._threes() if _is_word(token) and not _is_part(before))

    def called(self) -> Iterator[str]:
        """Each unquoted word before a parenthesis, unless it is an alias with column names."""
        for before, token, after in self._threes():
            is_alias = before is not None and before.token_type in {TokenType.ALIAS, TokenType.R_PAREN}
            if _is_word(token) and after is not None and after.token_type is TokenType.L_PAREN and not is_alias:
                yield token.text.upper()

    def _threes(self) -> Iterator[tuple[Token | None, Token, Token | None]]:
        """Each token with the token before and the token after it."""
        return zip([None, *self.tokens], self.tokens, [*self.tokens[1:], None], strict=False)


def _is_word(token: Token) -> bool:
    quoted = {TokenType.STRING, TokenType.IDENTIFIER, TokenType.NUMBER, TokenType.RAW_STRING}
    return token.token_type not in quoted and token.text.replace("_", "").isalnum()


def _is_part(before: Token | None) -> bool:
    return before is not None and before.token_type in {TokenType.DOT, TokenType.COLON}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a rule.

    Attributes:
        rule: the name of the rule.
        detail: the part of the statement that Snowflake refuses.
    """

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


# Snowflake, CREATE PROCEDURE, for LANGUAGE SQL: these clauses, in this order.
_PROCEDURE = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*CREATE\s+(?:OR\s+REPLACE\s+)?PROCEDURE\b(?:(?!\$\$).)*", re.DOTALL | re.IGNORECASE
)
_CLAUSES = re.compile(
    r"""CREATE\ (OR\ REPLACE\ )?PROCEDURE\ [\w.]+\ ?\([^$]*?\)\ (COPY\ GRANTS\ )?
        RETURNS\ (?:TABLE\ )?\w+(?:\ ?\([^)]*\))?\ (NOT\ NULL\ )?LANGUAGE\ SQL\ (COMMENT\ =\ '[^']*'\ )?
        (EXECUTE\ AS\ (?:OWNER|CALLER|RESTRICTED\ CALLER)\ )?AS""",
    re.VERBOSE | re.IGNORECASE,
)
_SCRIPTING = re.compile(r"(?:DECLARE|BEGIN(?!\s+TRANSACTION)|EXCEPTION\s+WHEN\s+OTHER\s+THEN)\b", re.IGNORECASE)
_COMPUTED = re.compile(
    r"(?:RETURN\s+|\w+\s*:=\s*|\w+\s+(?:VARCHAR|NUMBER)(?:\([^)]*\))?(?:\s+(?:DEFAULT|:=)\s+|$))(?P<expression>.*)",
    re.DOTALL | re.IGNORECASE,
)
_INTO = re.compile(r"\bINTO\s+:\w+(?:\s*,\s*:\w+)*", re.IGNORECASE)
_VARIABLE = re.compile(r"(?<![\w\])\"':]):[A-Za-z_]\w*")
# What a procedure with the rights of its owner may not do: it cannot see or change the session of its caller.
_OF_THE_SESSION = re.compile(
    r"(?:^|;|BEGIN|THEN)\s*((?:USE|SET|UNSET|ALTER\s+SESSION|SHOW|DESCRIBE)\b[^;]*)|(?<!\$)(\$\w+)", re.IGNORECASE
)

RULES: dict[str, Callable[[ParsedStatement], Iterator[str]]] = {}

_CHANGES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)


def rule(function: Callable[[ParsedStatement], Iterator[str]]) -> Callable[[ParsedStatement], Iterator[str]]:
    """Add a function to :data:`RULES`."""
    RULES[function.__name__] = function
    return function


def findings(text: str) -> list[Finding]:
    """Everything that Snowflake would refuse in ``text``, which has to be one statement."""
    if created := _PROCEDURE.match(text):
        # The grammar has the head of a procedure only.
        head = ParsedStatement(text, exp.Command(), sqlglot.tokenize(text[: created.end()], read="snowflake"))
        in_the_body = [finding for part in body_of(text) for finding in findings(part)]
        return [Finding(name, detail) for name, check in RULES.items() for detail in check(head)] + in_the_body
    try:
        trees = [tree for tree in sqlglot.parse(text, read="snowflake") if tree is not None]
        tokens = sqlglot.tokenize(text, read="snowflake")
    except (ParseError, TokenError) as error:
        return [Finding("does_not_parse", str(error).splitlines()[0])]
    if len(trees) != 1:
        return [Finding("not_one_statement", f"{len(trees)} statements")]
    statement = ParsedStatement(text, trees[0], tokens)
    return [Finding(name, detail) for name, check in RULES.items() for detail in check(statement)]


def body_of(procedure: str) -> list[str]:
    """The statements of a procedure, with ``?`` for its variables, and the expressions that it computes as queries."""
    found = []
    for part in split("".join(procedure.split("$$")[1:2])):
        text = part.strip()
        while keyword := _SCRIPTING.match(text):
            text = text[keyword.end() :].strip()
        if text.upper() in {"BEGIN TRANSACTION", "COMMIT", "ROLLBACK", "RAISE", "END", ""}:
            continue
        text = _INTO.sub("", text)
        if computed := _COMPUTED.fullmatch(text):
            text = f"SELECT {computed['expression'] or 'NULL'}"
        found.append(_VARIABLE.sub("?", text))
    return found


def split(script: str) -> list[str]:
    """The statements of a script, without the comments between them."""
    tokens = sqlglot.tokenize(script, read="snowflake")
    statements: list[str] = []
    first: Token | None = None
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if first is not None:
                statements.append(script[first.start : token.start])
            first = None
        elif first is None:
            first = token
    return statements + ([script[first.start :]] if first is not None else [])


# Not in the grammar


@rule
def unknown_to_the_parser(statement: ParsedStatement) -> Iterator[str]:
    """The parser does not know the statement, so no other rule can check it."""
    kinds = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE TABLE", "CREATE VIEW", "CREATE TRANSIENT")
    if isinstance(statement.tree, exp.Command) and statement.text.upper().startswith(kinds):
        yield statement.text[:60]


@rule
def returning(statement: ParsedStatement) -> Iterator[str]:
    """There is no RETURNING. A claim is read by its token."""
    yield from (node.sql() for node in statement.tree.find_all(exp.Returning))


@rule
def row_lock(statement: ParsedStatement) -> Iterator[str]:
    """FOR UPDATE exists only for hybrid tables. There is no SKIP LOCKED."""
    yield from (node.sql() for node in statement.tree.find_all(exp.Lock))


@rule
def with_before_a_change(statement: ParsedStatement) -> Iterator[str]:
    """A WITH clause is allowed only before SELECT."""
    yield from (type(node).__name__.upper() for node in statement.tree.find_all(*_CHANGES) if node.args.get("with_"))


@rule
def order_or_limit_of_a_change(statement: ParsedStatement) -> Iterator[str]:
    """UPDATE and DELETE have neither ORDER BY nor LIMIT."""
    for node in statement.tree.find_all(exp.Update, exp.Delete):
        yield from (node.args[part].sql().strip() for part in ("order", "limit") if node.args.get(part))


@rule
def upsert(statement: ParsedStatement) -> Iterator[str]:
    """There is no ON CONFLICT and no INSERT OR REPLACE. Use MERGE, or INSERT ... SELECT of the missing rows."""
    yield from (node.sql() for node in statement.tree.find_all(exp.OnConflict))
    for node in statement.tree.find_all(exp.Insert):
        if alternative := node.args.get("alternative"):
            yield f"INSERT OR {alternative}"


@rule
def qualified_target(statement: ParsedStatement) -> Iterator[str]:
    """In SET, a column has no table name before it."""
    for node in statement.tree.find_all(exp.Update):
        for change in node.expressions:
            if isinstance(change.this, exp.Column) and change.this.table:
                yield change.this.sql()


@rule
def distinct_on(statement: ParsedStatement) -> Iterator[str]:
    """There is no DISTINCT ON. Use QUALIFY ROW_NUMBER()."""
    yield from (node.sql() for node in statement.tree.find_all(exp.Distinct) if node.args.get("on"))


@rule
def set_operation_with_all(statement: ParsedStatement) -> Iterator[str]:
    """EXCEPT and INTERSECT have no ALL."""
    for node in statement.tree.find_all(exp.Except, exp.Intersect):
        if node.args.get("distinct") is False:
            yield f"{type(node).__name__.upper()} ALL"


@rule
def from_first(statement: ParsedStatement) -> Iterator[str]:
    """A query begins with SELECT or WITH."""
    if statement.tokens[0].token_type is TokenType.FROM:
        yield statement.text[:60]


@rule
def foreign_operator(statement: ParsedStatement) -> Iterator[str]:
    """A path into JSON is written with a colon, not with these operators."""
    yield from (token.text for token in statement.tokens if token.token_type in FOREIGN_OPERATORS)


# Not allowed in this place


@rule
def expression_in_values(statement: ParsedStatement) -> Iterator[str]:
    """VALUES accepts only constants: "Invalid expression [...] in VALUES clause". Use INSERT ... SELECT."""
    for values in statement.tree.find_all(exp.Values):
        for node in values.find_all(exp.Func, exp.Query):
            called = node.sql(dialect="snowflake").split("(")[0].strip()
            if not isinstance(node, exp.Cast | exp.Connector) and called not in CONSTANT_FUNCTIONS:
                yield node.sql(dialect="snowflake")


@rule
def too_many_rows_in_values(statement: ParsedStatement) -> Iterator[str]:
    """One VALUES clause has at most 16,384 rows."""
    for values in statement.tree.find_all(exp.Values):
        if len(values.expressions) > MOST_ROWS_IN_VALUES:
            yield f"{len(values.expressions)} rows"


@rule
def bind_in_limit(statement: ParsedStatement) -> Iterator[str]:
    """The number of rows cannot be bound: "Invalid row count '?' in limit clause"."""
    for node in statement.tree.find_all(exp.Limit, exp.Offset, exp.Fetch):
        if node.find(exp.Placeholder):
            yield node.sql().strip()


@rule
def bind_in_a_window_frame(statement: ParsedStatement) -> Iterator[str]:
    """The bounds of a window frame are constants."""
    yield from (node.sql() for node in statement.tree.find_all(exp.WindowSpec) if node.find(exp.Placeholder))


@rule
def limit_in_a_scalar_subquery(statement: ParsedStatement) -> Iterator[str]:
    """A scalar subquery with LIMIT is an "Unsupported subquery type"."""
    for node in statement.tree.find_all(exp.Subquery):
        is_table = isinstance(node.parent, exp.From | exp.Join | exp.Lateral | exp.In | exp.Insert | exp.Query)
        is_projected = isinstance(node.parent, exp.Select) and node.arg_key == "expressions"
        if node.this.args.get("limit") and (is_projected or not is_table):
            yield node.sql()


# Refused in ALTER TABLE. The stand-in refuses the same, so both read it in one place.


@rule
def default_that_is_no_constant(statement: ParsedStatement) -> Iterator[str]:
    """A new column's default is a constant: no SYSDATE(), no UUID_STRING()."""
    yield from alterations.defaults_that_are_no_constants(statement.tree)


@rule
def default_with_if_not_exists(statement: ParsedStatement) -> Iterator[str]:
    """ADD COLUMN IF NOT EXISTS takes no default."""
    yield from alterations.defaults_with_if_not_exists(statement.tree)


@rule
def default_set_later(statement: ParsedStatement) -> Iterator[str]:
    """The default of a column that exists cannot be set, unless it is a sequence."""
    yield from alterations.defaults_set_later(statement.tree)


# Names


@rule
def unknown_function(statement: ParsedStatement) -> Iterator[str]:
    """The function is not in :data:`FUNCTIONS`."""
    if isinstance(statement.tree, exp.Command | exp.Grant | exp.Revoke):
        return  # not parsed, or about a procedure: names look like functions
    tables = {node.name.upper() for node in statement.tree.find_all(exp.Table, exp.TableAlias)}
    known = FUNCTIONS | SESSION_CLOCKS | TYPES | KEYWORDS | tables
    yield from (name for name in statement.called() if name not in known)


@rule
def unknown_type(statement: ParsedStatement) -> Iterator[str]:
    """The type is not one of Snowflake's, for example JSON, BLOB, HUGEINT or TEXT[]."""
    yield from (token.text for token in statement.words() if token.text.upper() in FOREIGN_SYNONYMS)
    for node in statement.tree.find_all(exp.DataType):
        kind = node.this.name if isinstance(node.this, exp.DataType.Type) else str(node.this)
        if kind not in TYPES:
            yield str(node.args.get("kind") or node.sql())
        elif kind == "ARRAY" and node.expressions:
            yield node.sql()


@rule
def quoted_identifier(statement: ParsedStatement) -> Iterator[str]:
    """In Snowflake a quoted name keeps its case, so "id" is not ID. In DuckDB both are the same."""
    for node in statement.tree.find_all(exp.Identifier):
        if node.args.get("quoted") and node.name != node.name.upper():
            yield f'"{node.name}"'


@rule
def reserved_word(statement: ParsedStatement) -> Iterator[str]:
    """A reserved word can be a name only if it is quoted."""
    for node in statement.tree.find_all(exp.Identifier):
        if not node.args.get("quoted") and node.name.upper() in RESERVED:
            yield node.name


# Accepted with another meaning


@rule
def clock_of_the_session(statement: ParsedStatement) -> Iterator[str]:
    """CURRENT_TIMESTAMP follows the session's time zone, America/Los_Angeles by default; SYSDATE() is UTC."""
    yield from (token.text for token in statement.words() if token.text.upper() in SESSION_CLOCKS)


# Procedures


@rule
def head_of_a_procedure(statement: ParsedStatement) -> Iterator[str]:
    """The clauses of CREATE PROCEDURE have one order, and a script needs $$ around the body."""
    if created := _PROCEDURE.match(statement.text):
        head = " ".join(re.sub(r"--[^\n]*", "", created[0]).split())
        if statement.text.count("$$") != 2 or not _CLAUSES.fullmatch(head):
            yield head


@rule
def session_in_a_procedure(statement: ParsedStatement) -> Iterator[str]:
    """A procedure with the rights of its owner neither sees nor changes the variables and parameters of the session."""
    if _PROCEDURE.match(statement.text) and "$$" in statement.text:
        for found in _OF_THE_SESSION.finditer(statement.text.split("$$")[1]):
            yield (found[1] or found[2]).strip()


@rule
def begin_that_is_a_block(statement: ParsedStatement) -> Iterator[str]:
    """In a procedure, BEGIN begins a block. BEGIN TRANSACTION begins a transaction."""
    if _PROCEDURE.match(statement.text):
        yield from re.findall(r"\bBEGIN(?:\s+WORK)?\s*;", statement.text, re.IGNORECASE)


# Privileges and users. The parser has no grammar for most of these statements, so the rules read the words.


@rule
def privilege_that_the_object_lacks(statement: ParsedStatement) -> Iterator[str]:
    """Each kind of object has its own privileges. There is no INSERT on a view, and no USAGE on a table."""
    text = " ".join(token.text for token in statement.tokens).upper()
    granted = re.match(r"(?:GRANT|REVOKE) ([\w ,]+) ON (?:FUTURE |ALL )?(\w+)", text)
    if granted:
        kind = granted[2] if granted[2] in PRIVILEGES else granted[2].removesuffix("S")
        privileges = {name.strip() for name in granted[1].split(",")}
        yield from (f"{name} on {granted[2]}" for name in sorted(privileges - PRIVILEGES.get(kind, frozenset())))


@rule
def property_that_the_object_lacks(statement: ParsedStatement) -> Iterator[str]:
    """The object has no property of this name."""
    kind, properties = _administered(statement)
    yield from (f"{name} of a {kind}" for name in properties if name not in PROPERTIES[kind])


@rule
def service_with_what_a_person_has(statement: ParsedStatement) -> Iterator[str]:
    """A user of TYPE = SERVICE has no password. It logs in by key pair, token or workload identity."""
    _, properties = _administered(statement)
    if properties.get("TYPE") == "SERVICE":
        yield from (name for name in properties if name in OF_A_PERSON)


def _administered(statement: ParsedStatement) -> tuple[str, dict[str, str]]:
    """The kind of object that the statement creates or alters, and the first word of each property."""
    words = [token.text.upper() for token in statement.tokens]
    kind = next((word for word in words[1:4] if word in PROPERTIES), "")
    if words[0] not in {"CREATE", "ALTER"} or not kind:
        return "", {}
    depth, properties = 0, {}
    for name, equals, value in zip(words, words[1:], words[2:], strict=False):
        depth += (name == "(") - (name == ")")
        if equals == "=" and not depth:
            properties[name] = value
    return kind, properties
