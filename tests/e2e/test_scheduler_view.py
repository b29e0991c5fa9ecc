"""`dask_scheduler` of functions, plugins, preload modules: every name of stock's Scheduler works, or says why not."""

from __future__ import annotations

import asyncio
import logging
import os

import dask
import pytest
from distributed import Future, Scheduler, SchedulerPlugin
from distributed.protocol.pickle import dumps

from cluster import wait_until

#: What stock has and a process beside the scheduler cannot have; docs/scheduler-view.md.
REFUSED = {
    *("acquire_resources", "add_client", "add_nanny", "add_replica", "add_worker", "check_idle_saturated", "feed"),
    *("bulk_schedule_unrunnable_after_adding_worker", "handle_comm", "handle_stream", "handle_worker"),
    *("http_application", "http_server", "listen", "new_task", "release_resources", "remove_all_replicas"),
    *("remove_replica", "start", "start_http_server", "start_periodic_callbacks", "start_services", "start_unsafe"),
    *("stimulus_queue_slots_maybe_opened", "stimulus_task_erred", "stimulus_task_finished", "stop", "stop_services"),
    *("subscribe_worker_status", "transition", "transitions", "validate_erred", "validate_memory"),
    *("validate_no_worker", "validate_processing", "validate_queued", "validate_released", "validate_waiting"),
}


def inc(x):
    return x + 1


async def names_of_stock() -> list[str]:
    """Of an instance, for much is set in __init__."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    async with Scheduler(dashboard_address=":0", port=0) as s:
        return [name for name in dir(s) if name[0] != "_"]


def test_every_public_name_works_or_says_why_not(client):
    names = asyncio.run(names_of_stock())
    assert len(names) > 200

    def look(dask_scheduler, names):
        why = {}
        for name in names:
            try:
                getattr(dask_scheduler, name)
            except AttributeError as e:
                why[name] = str(e)
        return why

    why = client.run_on_scheduler(look, names=names)
    assert set(why) == REFUSED
    for name, text in why.items():
        assert f"'{name}' cannot be had here: " in text and "not in it" not in text


def test_values(client):
    future = client.submit(inc, 1, key="v-1")
    assert future.result() == 2

    def look(dask_scheduler):
        s = dask_scheduler
        s.digest_metric("mine", 3)
        s.digest_metric("mine", 2)
        return {
            "listens": [listener.contact_address for listener in s.listeners] == [s.address] == [s.address_safe],
            "listener": (s.listener.prefix, s.listener.port == s.port, s.listen_address == s.listener.listen_address),
            "services": s.services["dashboard"].port == s.service_ports["dashboard"] == s.services["dashboard"],
            "log": [(t.start, t.finish) for t in s.transition_log if t.key == "v-1"],
            "digests": (s.digests, s.digests_total["mine"], s.digests_max["mine"], s.digests_max["tick-duration"] > 0),
            "calls": s.counters["op"].components[0]["register-client"] >= 1,
            "comms": (
                s.incoming_comms_open > s.incoming_comms_active >= 2,
                s.get_connection_counters().keys() >= set(),
            ),
            "generation": s.generation >= 1,
            "rootish": (s.rootish_tg_threshold, s.rootish_tg_dependencies_threshold),
            "memory": (s.MEMORY_REBALANCE_MEASURE, s.MEMORY_REBALANCE_HALF_GAP, s.MEMORY_RECENT_TO_OLD_TIME),
            "others": (s.blocked_handlers, s.jupyter, s.default_port, s.transition_counter_max, s.service_specs),
            "added": (s._workers_added_total, s._workers_removed_total, s._client_connections_added_total >= 1),
            "echo": s.echo(5),
            "type": type(s).__name__,
            "html": "Scheduler" in s._repr_html_(),
        }

    assert client.run_on_scheduler(look) == {
        "listens": True,
        "listener": ("tcp://", True, True),
        "services": True,
        "log": [("released", "waiting"), ("waiting", "processing"), ("processing", "memory")],
        "digests": (None, 5, 3, True),
        "calls": True,
        "comms": (True, True),
        "generation": True,
        "rootish": (5, 5),
        "memory": ("optimistic", 0.05, 30),
        "others": ([], False, 8786, False, {}),
        "added": (2, 0, True),
        "echo": 5,
        "type": "Scheduler",
        "html": True,
    }


def test_streams(client):
    def look(dask_scheduler):
        s = dask_scheduler
        for stream in s.client_comms.values():
            stream.send({"op": "event", "topic": "made-up", "event": "hello"})
        name = next(iter(s.client_comms))
        with_all = {"op": "event", "topic": "made-up", "event": "again"}
        s.send_all({name: [with_all], "nobody": [with_all]}, {})
        for stream in s.stream_comms.values():
            stream.send({"op": "remove-replicas", "keys": [], "stimulus_id": "test"})
        return name, sorted(s.client_comms), "fire-and-forget" in s.client_comms, sorted(s.stream_comms)

    heard: list = []
    client.subscribe_topic("made-up", lambda event: heard.append(event))
    name, clients, has_own, workers = client.run_on_scheduler(look)
    assert name in clients and client.id in clients and not has_own
    assert workers == sorted(client.scheduler_info(-1)["workers"])
    wait_until(lambda: "hello" in heard, "the client hears what was put into its stream")
    for op in ["abort", "comm"]:
        with pytest.raises(AttributeError, match=op):
            client.run_on_scheduler(
                lambda dask_scheduler, op: getattr(next(iter(dask_scheduler.stream_comms.values())), op), op=op
            )


def test_methods(client):
    future = client.submit(inc, 1, key="x-1")
    assert future.result() == 2

    async def act(dask_scheduler, client_id):
        s = dask_scheduler
        ts = s.tasks["x-1"]
        (ws,) = ts.who_has
        other = next(ws2 for ws2 in s.workers.values() if ws2 != ws)
        s.client_heartbeat(client=client_id)
        s.report_on_key("x-1")
        s.report_on_key(ts=ts, client=client_id)
        s.validate_state()
        s.validate_key("x-1")
        seen = {
            "rootish": s.is_rootish(ts),
            "unoccupied": s.is_unoccupied(ws, 0.0, 0),
            "decided": s.decide_worker_non_rootish(ts) in (ws, other),
            "slots": s.decide_worker_rootish_queuing_enabled() in (ws, other),
            "copied": await s.gather_on_worker(other.address, {"x-1": [ws.address]}),
            "lost": await s.gather_on_worker(other.address, {"never": [ws.address]}),
            "holders": ts.who_has == {ws, other},
            "nbytes": ts.get_nbytes_deps() == 0,
        }
        await s.delete_worker_data(other.address, ["x-1"], "test")
        seen["left"] = ts.who_has == {ws}
        s.add_resources(worker=ws.address, resources={"GPU": 2})
        seen["resources"] = s.resources["GPU"] == {ws.address: 2}
        s.remove_resources(ws.address)
        seen["no_resources"] = "GPU" not in s.resources
        await s.check_worker_ttl()
        seen["closable"] = type(s.workers_to_close()), type(s.get_task_stream()), type(s.get_who_has(["x-1"])["x-1"])
        ran = await s.run_function(None, dumps(lambda x: x + 1), args=dumps((2,)))
        seen["ran"] = ran["status"]
        return seen

    assert client.run_on_scheduler(act, client_id=client.id) == {
        "rootish": False,
        "unoccupied": True,
        "decided": True,
        "slots": True,
        "copied": set(),
        "lost": {"never"},
        "holders": True,
        "nbytes": True,
        "left": True,
        "resources": True,
        "no_resources": True,
        "closable": (list, list, list),
        "ran": "OK",
    }
    with pytest.raises(KeyError, match="nobody"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.client_heartbeat("nobody"))


def test_rescheduling(client):
    from distributed import Event

    event = Event("go")

    def wait(event):
        event.wait()
        return 1

    future = client.submit(wait, event, key="waits-1")
    wait_until(lambda: client.processing() and any(client.processing().values()), "the task runs")

    def move(dask_scheduler):
        ts = dask_scheduler.tasks["waits-1"]
        before = ts.run_id
        dask_scheduler._reschedule("waits-1", stimulus_id="test")
        return before != dask_scheduler.tasks["waits-1"].run_id

    assert client.run_on_scheduler(move)
    event.set()
    assert future.result() == 1


class Holder(SchedulerPlugin):
    """As distributed's own: knows its scheduler from the start."""

    def __init__(self, scheduler):
        self.scheduler = scheduler


def test_a_plugin_that_holds_the_scheduler_comes_back(cluster, client):
    def add(dask_scheduler, holder):
        dask_scheduler.add_plugin(holder(dask_scheduler), name="holder")

    client.run_on_scheduler(add, holder=Holder)
    assert "cannot be pickled" not in cluster.scheduler.text
    with pytest.raises(Exception, match="plugin host"):
        client.run_on_scheduler(lambda: os._exit(1))

    def look(dask_scheduler):
        plugin = dask_scheduler.plugins["holder"]
        return plugin.scheduler is dask_scheduler, len(plugin.scheduler.workers)

    assert client.run_on_scheduler(look) == (True, 2)
    client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.remove_plugin("holder"))


def test_annotations_of_computations(client):
    """Of a graph that is read without Python, and of one that Python opens."""
    import dask.array as da

    def last(dask_scheduler):
        return dask_scheduler.computations[-1].annotations

    for compute in (lambda: client.submit(inc, 1), lambda: client.compute(da.ones(3, chunks=1).sum())):
        with dask.annotate(priority=3, note={"by": "me"}):
            future = compute()
        future.result()
        assert client.run_on_scheduler(last) == {"priority": 3, "note": {"by": "me"}}


def test_update_graph(client):
    """A graph that code beside the scheduler makes."""

    async def send(dask_scheduler, client_id):
        from dask._expr import LLGExpr
        from dask._task_spec import Task
        from distributed.protocol.serialize import Serialized, serialize, to_serialize

        expr = LLGExpr({"made-1": Task("made-1", sum, [1, 2])})
        await dask_scheduler.update_graph(
            client=client_id,
            expr_ser=Serialized(*serialize(to_serialize(expr), on_error="raise")),
            keys={"made-1"},
            span_metadata={},
            internal_priority=None,
            submitting_task=None,
        )
        return dask_scheduler.tasks["made-1"].state

    # before it is computed: a client hears of results of futures that it has
    future = Future("made-1", client)
    state = client.run_on_scheduler(send, client_id=client.id)
    assert state in ("waiting", "processing", "memory")
    assert future.result(timeout=30) == 3


def test_finished(cluster, client, tmp_path):
    """What waits for the end of the scheduler is told of it."""
    file = tmp_path / "ended"

    async def watch(dask_scheduler, path):
        async def wait():
            await dask_scheduler.finished()
            open(path, "w").close()

        dask_scheduler.loop.add_callback(wait)

    client.run_on_scheduler(watch, path=str(file))
    client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.loop.add_callback(dask_scheduler.close))
    wait_until(file.exists, "finished() returned")
    wait_until(lambda: not cluster.scheduler.running, "the scheduler ends")
