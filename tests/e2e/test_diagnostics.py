"""What a client can learn of a cluster after the fact: dumps, reports, spans, task streams, stories, versions."""

from __future__ import annotations

import gzip
import json
import os
import re
import warnings
from pathlib import Path

import dask
import msgpack
import pytest
import yaml
from dask.utils import key_split
from distributed import Client, get_task_stream, performance_report, span, wait
from distributed.cluster_dump import DumpArtefact
from distributed.metrics import context_meter

from cluster import wait_until


def inc(x):
    return x + 1


def div(x, y):
    return x / y


def metered(x):
    context_meter.digest_metric("spoons", 3, "count")
    with context_meter.meter("stirring"):
        sum(range(20_000))
    return x


def test_dump_to_a_local_file_and_from_the_scheduler(client: Client, tmp_path: Path):
    futures = client.map(inc, range(3))
    wait(futures)
    for url in (str(tmp_path / "client"), f"file://{tmp_path}/scheduler"):
        client.dump_cluster_state(url)
        client.dump_cluster_state(url, format="yaml")
    for name in ("client", "scheduler"):
        with gzip.open(tmp_path / f"{name}.msgpack.gz") as f:
            packed = msgpack.unpack(f)
        text = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
        for dump in (packed, text):
            assert set(dump) == {"scheduler", "workers", "versions"}
            assert {f.key for f in futures} <= set(dump["scheduler"]["tasks"])
            assert not any("run_spec" in task for task in dump["scheduler"]["tasks"].values())
    artefact = DumpArtefact.from_url(str(tmp_path / "scheduler.msgpack.gz"))
    assert len(artefact.scheduler_tasks_in_state("memory")) >= 3
    assert len(artefact.worker_tasks_in_state("memory")) >= 3
    assert artefact.missing_workers() == []
    story = artefact.scheduler_story(futures[0].key)[futures[0].key]
    assert [row[2] for row in story] == ["waiting", "processing", "memory"]
    artefact.to_yamls(tmp_path / "folder")
    assert (tmp_path / "folder" / "scheduler" / "tasks.yaml").is_file()


def test_dump_leaves_out_what_is_excluded_and_says_what_is_wrong(client: Client, tmp_path: Path):
    wait(client.submit(inc, 1))
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml", exclude=["state", "events"])
    dump = yaml.safe_load((tmp_path / "dump.yaml").read_text())
    assert "events" not in dump["scheduler"]
    for tasks in (dump["scheduler"]["tasks"], *(worker["tasks"] for worker in dump["workers"].values())):
        assert all("state" not in task for task in tasks.values())
    with pytest.raises(ValueError, match="Unsupported format"):
        client.dump_cluster_state(f"file://{tmp_path}/dump", format="json")
    with pytest.raises(ValueError, match="no-such-protocol"):
        client.dump_cluster_state("no-such-protocol://there/dump")
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        client.dump_cluster_state(f"file://{tmp_path}/file/dump")


def test_dump_into_a_folder_that_is_made(client: Client, tmp_path: Path):
    client.dump_cluster_state(f"file://{tmp_path}/a/b/dump")
    assert (tmp_path / "a" / "b" / "dump.msgpack.gz").is_file()


def test_dump_to_another_file_system_and_from_another_directory(client: Client, tmp_path: Path):
    client.run_on_scheduler(os.chdir, str(tmp_path))
    client.dump_cluster_state("file://relative")
    assert (tmp_path / "relative.msgpack.gz").is_file()
    client.dump_cluster_state(f"simplecache::file://{tmp_path}/dump")
    assert (tmp_path / "dump.msgpack.gz").is_file()


def test_performance_report_is_one_file_that_needs_no_network(client: Client, tmp_path: Path):
    report = tmp_path / "report.html"
    with performance_report(filename=str(report)):
        futures = client.map(inc, range(20), key="<report>")
        wait(futures)
    html = report.read_text()
    assert "<li> number of tasks: 20 </li>" in html
    assert "with performance_report(filename=str(report))" in html
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    plot = json.loads(re.search(r'id="task-stream">(.*?)</script>', html, re.DOTALL).group(1))
    assert len(plot["rectangles"]) == 20
    assert "<report>" not in html.replace("key=", "")


def test_task_stream(client: Client):
    with get_task_stream(client) as stream:
        wait(client.map(inc, range(5), pure=False))
    assert len(stream.data) == 5
    assert {key_split(record["key"]) for record in stream.data} == {"inc"}
    assert len(client.get_task_stream(count=2)) == 2
    assert all(record["startstops"] for record in stream.data)


def test_spans_reach_workers_and_tasks_of_tasks(client: Client):
    def nested():
        from distributed import worker_client

        with worker_client() as inner:
            return inner.submit(annotation, pure=False).result()

    def annotation():
        return dask.get_annotations().get("span")

    with span("outer") as outer, span("inner") as inner:
        here = client.submit(annotation, pure=False).result()
        below = client.submit(nested, pure=False).result()
    for found in (here, below):
        assert (tuple(found["name"]), tuple(found["ids"])) == (("outer", "inner"), (outer, inner))
    assert client.submit(annotation, key="no-span").result() is None


def test_spans_can_be_looked_at_beside_the_scheduler(client: Client):
    with span("looked", "at") as span_id:
        futures = [client.submit(inc, i, key=f"span-{i}") for i in range(3)]
        wait(futures)

    def look(dask_scheduler):
        spans = dask_scheduler.extensions["spans"]
        found = spans.spans[span_id]
        [merged] = spans.find_by_tags("looked")
        assert merged.children == [found]
        assert found.enqueued <= found.stop
        return found.name, found.states["memory"], found.done, dict(merged.cumulative_worker_metrics)

    wait_until(lambda: len(client.run_on_scheduler(look)[3]) > 1, "the metrics of the span")
    name, in_memory, done, metrics = client.run_on_scheduler(look)
    assert (name, in_memory, done) == (("looked", "at"), 3, True)
    assert metrics["execute", "span", "thread-cpu", "seconds"] >= 0


def test_metrics_of_tasks_reach_the_scheduler(client: Client):
    futures = [client.submit(metered, i, pure=False) for i in range(4)]
    assert sorted(client.gather(futures)) == [0, 1, 2, 3]

    def sums(dask_scheduler):
        return {
            k[2:]: v for k, v in dask_scheduler.cumulative_worker_metrics.items() if k[:2] == ("execute", "metered")
        }

    wait_until(lambda: client.run_on_scheduler(sums).get(("spoons", "count")) == 12, "the metrics of the tasks")
    found = client.run_on_scheduler(sums)
    assert {("thread-cpu", "seconds"), ("thread-noncpu", "seconds"), ("executor", "seconds")} <= set(found)
    assert 0 < found["stirring", "seconds"] < 10
    assert found["thread-cpu", "seconds"] < 10


def test_computations_and_their_code(client: Client):
    with dask.config.set({"distributed.diagnostics.computations.nframes": 1}):
        wait(client.submit(inc, 1, pure=False))

    def last(dask_scheduler):
        computation = list(dask_scheduler.computations)[-1]
        return [code[-1].code for code in computation.code], computation.start, computation.stop

    code, start, stop = client.run_on_scheduler(last)
    assert any("test_computations_and_their_code" in text for text in code)
    assert 0 < start <= stop + 1


def test_tasks_can_be_run_again_here(client: Client):
    x = client.submit(inc, 1, pure=False)
    total = client.submit(sum, [x, 5], pure=False)
    assert client.recreate_task_locally(total) == 7
    assert x.result() == 2
    failed = client.submit(div, x, 0, pure=False)
    child = client.submit(inc, failed, pure=False)
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally(child)


def test_stories_states_events(client: Client):
    future = client.submit(inc, 41, pure=False)
    wait(future)
    story = client.sync(client.scheduler.get_story, keys_or_stimuli=[future.key])
    assert [row[2] for row in story] == ["waiting", "processing", "memory"]
    assert client.sync(client.scheduler.get_task_status, keys=[future.key, "none"]) == {
        future.key: "memory",
        "none": None,
    }
    assert client.sync(client.scheduler.get_task_prefix_states)["inc"]["memory"] >= 1
    heard = []
    client.subscribe_topic("diagnostics", lambda event: heard.append(event[1]))

    def logged() -> bool:
        # The subscription goes by the stream, events by a connection of their own: the first may come before it.
        client.log_event("diagnostics", {"n": 1})
        return bool(heard)

    wait_until(logged, "the event")
    assert heard[0] == {"n": 1}
    assert {message["n"] for _, message in client.get_events("diagnostics")} == {1}
    client.unsubscribe_topic("diagnostics")


def test_versions_agree(client: Client):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        versions = client.get_versions(check=True, packages=["pytest"])
    assert {"host", "packages"} <= set(versions["scheduler"])
    assert len(versions["workers"]) == 2
    assert versions["scheduler"]["packages"] == versions["client"]["packages"]
    assert all(worker["packages"] == versions["client"]["packages"] for worker in versions["workers"].values())


def test_a_client_without_pickle_gets_what_it_can_read(cluster):
    with cluster.client(serializers=["dask", "msgpack"]) as client:
        assert set(client.run(lambda: 1).values()) == {1}
        assert client.run_on_scheduler(lambda: 1) == 1
        for run in (client.run, client.run_on_scheduler):
            with pytest.raises(TypeError):
                run(lambda: inc)


def test_profiles_are_merged(client: Client):
    def spin(seconds):
        from time import perf_counter

        end = perf_counter() + seconds
        while perf_counter() < end:
            pass

    wait_until(lambda: wait(client.map(spin, [0.05] * 4, pure=False)) and client.profile()["count"], "a sample")
    # nothing runs any more: no samples are added between the two questions
    assert client.profile()["count"] == sum(p["count"] for p in client.profile(merge_workers=False).values())
