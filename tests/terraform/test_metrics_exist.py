"""Every metric of a widget or an alarm exists. A widget on an unknown metric stays empty without an error.

These tests read the files and need no Terraform. test_planned.py compares the planned metrics with their dimensions.
"""

from __future__ import annotations

import ast
import json
import re

from terraform.known_metrics import AWS
from terraform.workbench import ROOT

from rowqueue.observability import NAMESPACE, Event, Metric

MONITORING = ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "cloudwatch_dashboard.json").read_text(encoding="utf-8"))
ALARMS = (MONITORING / "cloudwatch_alarms.tf").read_text(encoding="utf-8")
QUERIES = (MONITORING / "saved_queries.tf").read_text(encoding="utf-8")
OURS = {metric.value for metric in Metric}
NOT_METRICS = {"LessThanThreshold", "GreaterThanThreshold", "GreaterThanOrEqualToThreshold", NAMESPACE}


def widgets(kind):
    return [widget for widget in DASHBOARD["widgets"] if widget["type"] == kind]


def charted():
    """(namespace, metric) of each line of a chart that is not an expression."""
    lines = [line for widget in widgets("metric") for line in widget["properties"]["metrics"]]
    return {(line[0], line[1]) for line in lines if isinstance(line[0], str)}


def test_the_dashboard_shows_only_metrics_that_exist():
    emitted = {(NAMESPACE, name) for name in OURS} | {(space, name) for space, names in AWS.items() for name in names}
    assert charted() - emitted == set()


def test_the_dashboard_shows_every_metric_of_ours():
    assert OURS - {name for space, name in charted() if space == NAMESPACE} == set()


def test_the_alarms_use_only_metrics_that_exist():
    simple = set(re.findall(r'metric = "(\w+)"', ALARMS))
    named = (simple | set(re.findall(r'"([A-Z][a-z]+(?:[A-Z][a-z]+)+)"', ALARMS))) - NOT_METRICS
    assert {"TicksCompleted", "Errors", "CpuUtilized", "EntriesFailed"} <= named
    assert named - OURS - {name for names in AWS.values() for name in names} == set()


def test_an_expression_uses_only_lines_of_its_own_chart():
    for widget in widgets("metric"):
        lines = widget["properties"]["metrics"]
        ids = {line[-1].get("id") for line in lines if isinstance(line[-1], dict)}
        for line in lines:
            if "expression" in line[0]:
                assert set(re.findall(r"[a-z][a-z_]+", line[0]["expression"])) <= ids, widget["properties"]["title"]


def test_the_widgets_have_types_of_cloudwatch_and_do_not_overlap():
    taken = {}
    for widget in DASHBOARD["widgets"]:
        assert widget["type"] in {"metric", "text", "log", "alarm"}
        assert widget["x"] + widget["width"] <= 24
        for x in range(widget["x"], widget["x"] + widget["width"]):
            for y in range(widget["y"], widget["y"] + widget["height"]):
                assert taken.setdefault((x, y), widget) is widget, (widget, taken[x, y])


def test_the_queries_ask_only_for_events_that_exist():
    named = {word for names in re.findall(r"event (?:=|in) (.+)", QUERIES) for word in re.findall(r'"(\w+)"', names)}
    assert {"tick", "processor_ended"} <= named
    assert named - {event.value for event in Event} == set()


LOGGED_ALWAYS = {"event", "level", "processor_id"}
WORDS_OF_THE_QUERY_LANGUAGE = {
    *("fields", "filter", "sort", "limit", "stats", "by", "as", "in", "and", "desc", "count", "sum", "latest"),
    *("coalesce", "timestamp"),
}


def logged_keys():
    """The keys of all log lines: the keyword arguments of the calls that write one."""
    files = [*(ROOT / "src" / "rowqueue").rglob("*.py"), ROOT / "container" / "processor.py"]
    calls = [
        node
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"log", "log_problem", "log_fault", "write"}
    ]
    return {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}


def test_the_queries_read_only_keys_that_are_logged():
    for query in re.findall(r"<<-EOT\n(.*?)EOT", QUERIES, re.DOTALL):
        text = re.sub(r'"[^"]*"', "", query)
        aliases = set(re.findall(r"\bas (\w+)", text))
        read = set(re.findall(r"[A-Za-z_]+", text)) - aliases - WORDS_OF_THE_QUERY_LANGUAGE
        assert read - logged_keys() - OURS - LOGGED_ALWAYS == set(), query
