from __future__ import annotations

import time
from typing import Any

import pytest
from distributed import get_worker
from distributed.metrics import context_meter

from dask_ts.executor_meter import CURRENT, MAX_METRICS, Meter, metered_context, plain_name
from executor_child import FAILURE, SUCCESS, Child


@pytest.fixture(scope="module")
def child():
    child = Child(memory_limit=2**30)
    yield child
    child.kill()


#: Where an outcome has its meter's row.
METER = {SUCCESS: 11, FAILURE: 8}


def row_of(outcome: list[Any]) -> list[Any]:
    return outcome[METER[outcome[0]]]


def metrics_of(row: list[Any]) -> dict[tuple[Any, str], float]:
    return {(label, unit): value for label, value, unit in zip(row[2::3], row[3::3], row[4::3], strict=True)}


def test_times_are_without_what_the_task_metered():
    meter = Meter()
    meter.add("mine", 0.5, "seconds")
    meter.add("mine", 0.25, "seconds")
    meter.add("bytes read", 10, "bytes")
    cpu, noncpu, *_ = row = meter.row(wall=3.0, cpu=1.0)
    assert (cpu, noncpu) == (0.25, 2.0)
    assert metrics_of(row) == {("mine", "seconds"): 0.75, ("bytes read", "bytes"): 10}
    assert meter.row(wall=0.5, cpu=None) == [None, 0.0, *row[2:]]


def test_labels_can_travel_and_do_not_fill_the_memory():
    assert plain_name(("a", 1, (None, object))) == ("a", 1, (None, "<class 'object'>"))
    meter = Meter()
    for i in range(MAX_METRICS + 10):
        meter.add(i, 1, "count")
    assert meter.metrics is not None and len(meter.metrics) == MAX_METRICS


def test_contexts_meter_for_the_task_that_runs_in_them():
    base = metered_context()
    meters = [Meter(), Meter()]
    for meter in meters:
        copy = base.copy()
        copy.run(CURRENT.set, meter)
        copy.run(context_meter.digest_metric, "n", 2, "count")
    base.copy().run(context_meter.digest_metric, "nobody's", 1, "count")
    context_meter.digest_metric("outside", 1, "count")
    assert [meter.metrics for meter in meters] == [{("n", "count"): 2}] * 2


def sleep_and_meter(x):
    with context_meter.meter("nap"):
        time.sleep(0.02)
    context_meter.digest_metric(("spoons", 1), 2, "pieces")
    return x


async def meter_async():
    context_meter.digest_metric("async", 1, "count")
    return 1


def meter_and_fail():
    context_meter.digest_metric("tried", 1, "count")
    raise ValueError


def digest_in_worker():
    get_worker().digest_metric(("p2p", "span", "send", "seconds"), 0.5)


def test_outcomes_tell_what_was_metered(child: Child):
    outcome = child.run("nap", sleep_and_meter, 1)
    assert outcome[0] == SUCCESS
    cpu, noncpu, *_ = row = row_of(outcome)
    assert 0 <= cpu < 1 and 0 <= noncpu < 1
    metrics = metrics_of(row)
    assert metrics["nap", "seconds"] >= 0.02
    assert metrics[("spoons", 1), "pieces"] == 2


def test_reading_dependencies_is_metered(child: Child):
    child.run("data", sleep_and_meter, b"1234")
    outcome = child.run("reader", len, b"12", dependencies=("data",))
    assert metrics_of(row_of(outcome))["memory-read", "count"] == 1


def test_coroutines_and_failures(child: Child):
    cpu, noncpu, *rest = row_of(child.run("async", meter_async))
    assert cpu is None and noncpu >= 0
    assert rest == ["async", 1, "count"]
    outcome = child.run("tried", meter_and_fail)
    assert outcome[0] == FAILURE
    assert metrics_of(row_of(outcome)) == {("tried", "count"): 1}


def test_digests_of_the_worker_are_told_once(child: Child):
    child.run("digest", digest_in_worker)
    name = ("p2p", "span", "send", "seconds")
    digests = [(tuple(name), value) for name, value in child.call("heartbeat-metrics")["digests"]]
    assert (name, 0.5) in digests
    assert name not in [tuple(other) for other, _ in child.call("heartbeat-metrics")["digests"]]
