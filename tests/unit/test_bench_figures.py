"""The figures of the benchmark."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowqueue.lifecycle import Settlement, Status
from rowqueue_local.bench import memory, rows, settles
from rowqueue_local.bench.cases import GROUPS, Case, form
from rowqueue_local.bench.figures import Measured, promises, rows_of
from rowqueue_local.bench.ground import BenchError
from rowqueue_local.bench.runs import check
from rowqueue_local.bench.tables import of_promises, of_rows

OURS = Case(system="ours", entries=1000)
LIMIT = replace(OURS, system="limit")
SKETCH = replace(OURS, system="sketch", entries=10)


def run(case, rate, *, repetition=0, cpu_seconds=0.2, statements=30):
    return Measured(
        case=case,
        repetition=repetition,
        seconds=case.entries / rate,
        cpu_seconds=cpu_seconds,
        peak_bytes=100_000_000,
        statements={"update": statements},
    )


def test_a_ratio_compares_runs_of_the_same_repetition_and_is_their_median():
    runs = [
        *(run(LIMIT, 1000, repetition=0), run(OURS, 900, repetition=0)),
        *(run(LIMIT, 100, repetition=1), run(OURS, 80, repetition=1)),
        *(run(LIMIT, 1000, repetition=2), run(OURS, 100, repetition=2)),
    ]
    limit, ours = rows_of(runs)
    assert ours.ratio_to_limit == pytest.approx(0.8), "of 0.9, 0.8 and 0.1; of the medians it would be 0.1"
    assert (ours.entries_per_second, ours.slowest, ours.fastest) == pytest.approx((100, 80, 900))
    assert ours.repetitions == 3


def test_only_runs_under_the_same_conditions_are_compared():
    other = replace(LIMIT, service_ms=0)
    assert rows_of([run(other, 1000), run(OURS, 500)])[1].ratio_to_limit is None


def test_several_processors_are_compared_with_one():
    ten = replace(OURS, processes=10, entries=5000)
    row = rows_of([run(OURS, 500), run(ten, 450)])[1]
    assert row.ratio_to_one == pytest.approx(0.9)
    assert rows_of([run(OURS, 500)])[0].ratio_to_one is None


def test_costs_are_given_for_a_number_of_entries():
    (row,) = rows_of([run(OURS, 500, cpu_seconds=0.2, statements=30)])
    assert row.statements_per_100 == 3
    assert row.cpu_seconds_per_1000 == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("rate", "cpu_seconds", "kept"), [(900, 0.2, [True, True, True]), (800, 0.3, [False, True, False])]
)
def test_a_promise_is_kept_or_not(rate, cpu_seconds, kept):
    delivered = promises(rows_of([run(LIMIT, 1000), run(OURS, rate, cpu_seconds=cpu_seconds)]))
    assert [promise.kept for promise in delivered] == kept
    assert ("NOT kept" in of_promises(delivered)) is not all(kept)


def test_the_promised_parts_have_all_that_the_promises_compare():
    runs = [run(case, 100, repetition=repetition) for repetition, case in form(quick=True).plays()]
    assert len(promises(rows_of(runs))) == 7


@pytest.mark.parametrize("group", GROUPS)
def test_each_part_can_be_run_alone_and_has_its_limit(group):
    runs = [run(case, 100, repetition=repetition) for repetition, case in form(groups=(group,), repetitions=1).plays()]
    assert all(row.ratio_to_limit == pytest.approx(1) for row in rows_of(runs))


def test_slow_cases_are_repeated_less_often_and_all_are_interleaved():
    plays = form(quick=True).plays()
    assert [repetition for repetition, _ in plays] == sorted(repetition for repetition, _ in plays)
    assert {repetition for repetition, case in plays if case.slow} == {0}
    assert {repetition for repetition, case in plays if not case.slow} == set(range(7))


def test_a_table_has_a_line_for_each_case():
    table = of_rows(rows_of([run(LIMIT, 1000), run(OURS, 900), run(SKETCH, 2)])).splitlines()
    assert len(table) == 5
    assert len({len(line) for line in table}) == 1


SEEN = {"requests": 5000, "duplicates": 7}


@pytest.mark.parametrize(
    ("delivered", "counts", "requests", "duplicates"),
    [
        (999, {"completed": 1000}, 1000, 0),
        (1000, {"completed": 999, "processing": 1}, 1000, 0),
        (1000, {"completed": 1000, "failed": 1}, 1000, 0),
        (1000, {"completed": 1000}, 999, 0),
        (1000, {"completed": 1000}, 1001, 1),
        (0, {"pending": 1000}, 0, 0),
    ],
)
def test_a_run_that_did_not_deliver_every_entry_once_is_invalid(delivered, counts, requests, duplicates):
    after = {"requests": 5000 + requests, "duplicates": 7 + duplicates}
    with pytest.raises(
        BenchError, match=f"delivered {delivered} as reported by the system, {requests} as counted by the partner"
    ):
        check(OURS, delivered, counts, SEEN, after)


def test_a_run_that_delivered_every_entry_once_is_valid():
    after = {"requests": 6000, "duplicates": 7}
    check(OURS, 1000, {"completed": 1000}, SEEN, after)
    check(LIMIT, 1000, {}, SEEN, after)


def times(**ratios):
    return [{"duty": duty, "ratio": ratio, "raw_ratio": ratio + 0.1} for duty, ratio in ratios.items()]


@pytest.mark.parametrize(
    ("fill", "kept"),
    [
        (
            rows.Fill(finished=9),
            {
                "pulse": True,
                "count_ready": False,
                "claim": True,
                "settle": False,
                "pulse, raw": False,
                "claim, raw": True,
            },
        ),
        (rows.Fill(pending=9), {"pulse": True, "count_ready": False, "claim": True, "settle": False}),
        (rows.Fill(attempts=9), {"settle, raw": False, "rescue, raw": True}),
    ],
)
def test_full_tables_and_a_long_trail_have_promises_of_their_own(fill, kept):
    judged = rows.promises(times(pulse=1.5, claim=1.2, settle=1.51, rescue=1.0, count_ready=9.0), fill)
    assert {promise.text.split(" with ")[0]: promise.kept for promise in judged} == kept
    assert all(str(fill) in promise.text for promise in judged)


def test_a_fill_is_named_with_the_size_of_its_entries():
    assert (
        str(rows.Fill(finished=5, pending=6, characters=7))
        == "5 finished entries and 6 pending entries of 7 characters"
    )
    assert str(rows.Fill(attempts=8)) == "8 attempts"


def test_a_settle_by_join_has_to_be_faster_and_to_need_fewer_updates():
    figures = [
        {
            "answer_characters": load.characters,
            "ratio": load.least_ratio - 0.1 * (load.characters == 1000),
            "bound_updates": 10 * load.fewer_updates - (load.characters == 16_000),
            "joined_updates": 10,
        }
        for load in settles.LOADS
    ]
    assert [promise.kept for promise in settles.promises(figures)] == [True, True, False, True, True, False]


class CountedWarehouse:
    """Changes as many rows as are sent; remembers the statements."""

    def __init__(self):
        self.sent = []

    def change(self, statement, values):
        self.sent.append(statement.name)
        return values.get("settlements", "").count("completed")


def test_the_bound_form_needs_an_update_for_each_900_kilobytes():
    warehouse = CountedWarehouse()
    store = settles.BoundStore(warehouse, queue="Q", processor_id="bench", max_retries=3)
    done = [
        Settlement(entry_id=n, claim_token="t", idempotency_key=f"k{n}", status=Status.COMPLETED, result="x" * 16_000)
        for n in range(120)
    ]
    assert store.settle(done, []) == frozenset()
    assert warehouse.sent == ["settle_bound"] * 3


def test_memory_is_judged_by_the_smallest_task_and_by_the_longest_block():
    figures = [
        {"entries": 1, "characters": 200, "peak_mb": 429.0, "longest_block_s": 0.6},
        {"entries": 60, "characters": 5_000_000, "peak_mb": 430.0, "longest_block_s": 0.5},
    ]
    assert [promise.kept for promise in memory.promises(figures)] == [True, False, False, True]
