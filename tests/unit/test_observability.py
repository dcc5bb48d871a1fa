"""Log lines and the metrics in them."""

from __future__ import annotations

import json

import pytest

from rowqueue import settings
from rowqueue.observability import NAMESPACE, Event, Metric, configure, embedded, log, log_fault


def test_a_line_is_one_json_object_with_its_event_service_and_time(capsys):
    configure("poller", environment="dev")
    log(Event.TICK, ready=3)
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["service"], line["Environment"], line["ready"]) == ("tick", "poller", "dev", 3)
    assert line["timestamp"].endswith("Z")


def test_metrics_are_declared_in_the_embedded_metric_format():
    fields = embedded({Metric.ENTRIES_READY: 7, Metric.DELIVERY_MILLISECONDS: [1.5, 2.5]}, now=1000.5)
    assert fields == {
        "_aws": {
            "Timestamp": 1_000_500,
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Environment"]],
                    "Metrics": [
                        {"Name": "EntriesReady", "Unit": "Count"},
                        {"Name": "DeliveryMilliseconds", "Unit": "Milliseconds"},
                    ],
                }
            ],
        },
        "EntriesReady": 7,
        "DeliveryMilliseconds": [1.5, 2.5],
    }


@pytest.mark.parametrize("count", [100, 101, 5000])
def test_a_line_with_too_many_values_keeps_an_even_selection(count):
    kept = embedded({Metric.DELIVERY_MILLISECONDS: [float(n) for n in range(count)]})["DeliveryMilliseconds"]
    assert len(kept) == 100
    assert kept[0] == 0
    assert kept[50] == pytest.approx(count / 2, rel=0.02)


def test_a_fault_of_the_program_is_one_line_with_its_stack(capsys):
    configure("processor")
    password = "canary-in-a-local-variable"  # noqa: F841 -- as in main()
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as fault:
        log_fault(Event.PROCESSOR_FAILED, fault)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "canary" not in line


def test_the_time_limits_add_up():
    assert settings.LOCK_TIMEOUT_S < settings.STATEMENT_TIMEOUT_S < settings.TICK_DEADLINE_S < 60
    assert settings.LAST_FLUSH_S < settings.STOP_TIMEOUT_S
