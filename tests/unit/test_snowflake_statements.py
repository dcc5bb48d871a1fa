from __future__ import annotations

import pytest

from rowqueue_local.snowflake.statements import read


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select 1", "select"),
        ("(SELECT 1) UNION (SELECT 2)", "select"),
        ("with x as (select 1) select * from x", "select"),
        ("-- a remark; with a semicolon\n// and another\n/* UPDATE t */ insert into q values (1)", "insert"),
        ("START TRANSACTION", "begin"),
        ("begin name t1", "begin"),
        ("desc table q", "describe"),
        ("pragma version", "other"),
        ("'select'", "other"),
        ("", "other"),
    ],
)
def test_the_leading_keyword_determines_the_kind(text, kind):
    assert read(text).kind == kind


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("update q set a = 1", ("Q",)),
        ("UPDATE\n  -- the queue\n  work.public.q AS t\nSET a = 1", ("WORK", "PUBLIC", "Q")),
        ('delete from "My.Db" . "say ""hi""" where 1 = 1', ("MY.DB", 'SAY "HI"')),
        ("merge into /* here */ q$1 using s on a = b", ("Q$1",)),
        ("truncate table if exists public.q", ("PUBLIC", "Q")),
        ("truncate q;", ("Q",)),
        ("insert overwrite into q select 1", ("Q",)),
        ("insert into q values (1)", ()),
        ("select * from q", ()),
        ("create table q (a int)", ()),
    ],
)
def test_update_delete_merge_and_truncate_lock_their_table(text, table):
    assert read(text).locks == table


@pytest.mark.parametrize(
    ("text", "autocommit"),
    [
        ("alter session set autocommit = false", False),
        ("ALTER SESSION SET autocommit=True", True),
        ("alter session set query_tag = 'autocommit', autocommit = FALSE", False),
        ("alter session unset autocommit", True),
        ("alter session set query_tag = 'autocommit'", None),
        ("alter table q add column autocommit boolean", None),
    ],
)
def test_alter_session_is_read_for_autocommit(text, autocommit):
    assert read(text).autocommit is autocommit


@pytest.mark.parametrize(
    "text",
    [
        "begin",
        "COMMIT WORK",
        "rollback;",
        "grant select on q to role r",
        "create or replace warehouse w warehouse_size = xsmall",
        "create network policy if not exists p",
        "drop user u",
        "use secondary roles all",
        "alter session set timezone = 'UTC'",
        "alter table if exists q set change_tracking = true",
    ],
)
def test_statements_without_an_effect_do_not_reach_the_engine(text):
    assert not read(text).for_engine


@pytest.mark.parametrize(
    "text",
    [
        "use schema s",
        "drop table if exists warehouse",
        "alter table q add column a int",
        "create table grants (role int)",
    ],
)
def test_other_statements_reach_the_engine(text):
    assert read(text).for_engine


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("create or alter table q (a int)", "CREATE OR ALTER"),
        ("create /* x */ OR\nalter view v as select 1", "CREATE OR ALTER"),
        ("create or replace stream s on table q", "STREAM"),
        ("alter task t resume", "TASK"),
        ("execute task t", "TASK"),
        ("drop alert if exists a", "ALERT"),
        ("drop procedure p()", "PROCEDURE"),
        ("create or replace secure function f() returns int", "FUNCTION"),
        ("create dynamic table d target_lag = '1 minute'", "DYNAMIC TABLE"),
        ("execute immediate $$ begin return 1; end $$", "scripting"),
        ("begin let x := 1; return x; end", "scripting"),
        ("begin\n  select 1", "scripting"),
    ],
)
def test_statements_that_the_engine_would_execute_wrongly_are_refused(text, reason):
    assert reason in (read(text).refusal or "")


@pytest.mark.parametrize(
    "text",
    [
        "create table task (stream int, alert int)",
        "update q set a = ';' where b = 'it''s; \\';'",
        "insert into q select $$a;b$$",
        "select 1;",
        "begin transaction;",
    ],
)
def test_similar_statements_are_not_refused(text):
    assert read(text).refusal is None
