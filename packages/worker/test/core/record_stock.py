"""Record what the original worker state machine does on random event sequences.

    python record_stock.py OUT.json [SCENARIOS] [EVENTS] [FIRST_SEED]

Every scenario is a list of steps: an event, the instructions it led to, and the task states that it changed. The
original's sets are replaced by ordered ones and its random tie-break by a constant, so that the outcome depends on the
events alone. An event after which the original finds its own state invalid is left out (the sequence is one that no
scheduler would send), and the scenario is replayed without it.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Iterable, Iterator, MutableSet
from typing import Any, ClassVar

import distributed.worker_state_machine as wsm
from distributed.collections import HeapSet
from distributed.protocol.serialize import Serialize

logging.disable(logging.CRITICAL)

ADDRESS = "tcp://10.0.0.1:1"
PEERS = ["tcp://10.0.0.1:2", "tcp://10.0.0.1:3", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1"]
VALUE = b"1234567"


class OrderedSet(MutableSet):
    def __init__(self, items: Iterable = ()) -> None:
        self._items = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Any) -> None:
        self._items.setdefault(item)

    def discard(self, item: Any) -> None:
        self._items.pop(item, None)


class FirstAddress:
    def random(self) -> float:
        return 0.0


class InFlight(dict):
    order: ClassVar[list[Any]] = []

    def __setitem__(self, worker: str, keys: set) -> None:
        super().__setitem__(worker, OrderedSet(self.order))


def patch() -> None:
    post_init = wsm.TaskState.__post_init__
    heap_init = HeapSet.__init__
    select = wsm.WorkerState._select_keys_for_gather

    def ordered_post_init(self: Any) -> None:
        post_init(self)
        for name in ("dependencies", "dependents", "waiting_for_data", "waiters"):
            setattr(self, name, OrderedSet())

    def ordered_heap_init(self: Any, *args: Any, **kwargs: Any) -> None:
        heap_init(self, *args, **kwargs)
        self._data = OrderedSet()

    def recorded_select(self: Any, available: Any) -> Any:
        tasks, nbytes = select(self, available)
        InFlight.order = [ts.key for ts in tasks]
        return tasks, nbytes

    def eager_discard(self: Any, value: Any) -> None:
        # The original leaves an entry behind, whose old place (and priority) counts again when the value comes back.
        self._data.discard(value)
        self._heap = sorted(entry for entry in self._heap if entry[2]() is not value)
        self._sorted = True

    HeapSet.discard = eager_discard
    wsm.TaskState.__post_init__ = ordered_post_init
    HeapSet.__init__ = ordered_heap_init
    wsm.WorkerState._select_keys_for_gather = recorded_select


def make_state(config: dict) -> wsm.WorkerState:
    ws = wsm.WorkerState(
        address=ADDRESS,
        nthreads=config["nthreads"],
        resources=config["resources"],
        transfer_incoming_count_limit=config["count_limit"],
        transfer_incoming_bytes_limit=config["bytes_limit"],
        transfer_message_bytes_limit=config["message_limit"],
        validate=True,
    )
    ws.transfer_incoming_bytes_throttle_threshold = config["threshold"]
    ws.rng = FirstAddress()
    ws.in_flight_workers = InFlight()
    ws.missing_dep_flight = OrderedSet()
    return ws


def to_stock(event: dict) -> wsm.StateMachineEvent:
    ev = {k: v for k, v in event.items() if k != "kind"}
    kind = event["kind"]
    if kind == "compute-task":
        return wsm.ComputeTaskEvent(
            **{**ev, "priority": tuple(ev["priority"])}, run_spec="spec", actor=False, annotations={}, span_id=None
        )
    if kind == "gather-success":
        keys = ev.pop("keys")
        return wsm.GatherDepSuccessEvent(**ev, data=dict.fromkeys(keys, VALUE))
    if kind == "gather-failure":
        return wsm.GatherDepFailureEvent(
            **ev, exception=Serialize(Exception()), traceback=None, exception_text="", traceback_text=""
        )
    if kind == "execute-success":
        return wsm.ExecuteSuccessEvent(**ev, value=VALUE, start=1.0, stop=2.0, type=bytes)
    if kind == "execute-failure":
        return wsm.ExecuteFailureEvent(
            **ev,
            start=1.0,
            stop=2.0,
            exception=Serialize(Exception()),
            traceback=None,
            exception_text="",
            traceback_text="",
        )
    if kind == "update-data":
        return wsm.UpdateDataEvent(data=dict.fromkeys(ev.pop("keys"), VALUE), **ev)
    cls = {
        "free-keys": wsm.FreeKeysEvent,
        "remove-replicas": wsm.RemoveReplicasEvent,
        "acquire-replicas": wsm.AcquireReplicasEvent,
        "steal-request": wsm.StealRequestEvent,
        "refresh-who-has": wsm.RefreshWhoHasEvent,
        "remove-worker": wsm.RemoveWorkerEvent,
        "cancel-compute": wsm.CancelComputeEvent,
        "gather-busy": wsm.GatherDepBusyEvent,
        "gather-network-failure": wsm.GatherDepNetworkFailureEvent,
        "reschedule": wsm.RescheduleEvent,
        "secede": wsm.SecedeEvent,
        "pause": wsm.PauseEvent,
        "unpause": wsm.UnpauseEvent,
        "retry-busy-worker": wsm.RetryBusyWorkerEvent,
        "find-missing": wsm.FindMissingEvent,
    }[kind]
    return cls(**ev)


def simplify(instruction: wsm.Instruction) -> list:
    if isinstance(instruction, wsm.Execute):
        return ["execute", instruction.key]
    if isinstance(instruction, wsm.GatherDep):
        return ["gather", instruction.worker, sorted(instruction.to_gather), instruction.total_nbytes]
    if isinstance(instruction, wsm.RetryBusyWorkerLater):
        return ["retry-busy-worker-later", instruction.worker]
    assert isinstance(instruction, wsm.SendMessageToScheduler)
    msg = instruction.to_dict()
    out = [msg["op"]]
    if "keys" in msg:
        out.append(sorted(msg["keys"]))
    else:
        out.append(msg["key"])
    for field in ("run_id", "nbytes", "state", "compute_duration"):
        if field in msg:
            out.append(msg[field])
    if "startstops" in msg:
        out.append([s["action"] for s in msg["startstops"] if s["action"] != "disk-write"])
    return out


def states_of(ws: wsm.WorkerState) -> dict[str, str]:
    out = {}
    for key, ts in ws.tasks.items():
        text = ts.state
        if ts.state == "cancelled":
            text += f"({ts.previous})"
        elif ts.state == "resumed":
            text += f"({ts.previous}->{ts.next})"
        out[key] = text
    return out


class Scenario:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.n_keys = rng.choice([4, 8, 16])
        self.keys = [f"{rng.choice('xyz')}-{i}" for i in range(self.n_keys)]
        self.deps = {
            key: rng.sample(self.keys[:i], min(i, rng.choice([0, 0, 1, 1, 2, 3]))) for i, key in enumerate(self.keys)
        }
        limited = rng.random() < 0.5
        self.config = {
            "nthreads": rng.choice([1, 1, 2, 4]),
            "resources": {"R": 2, "Q": 1},
            "count_limit": rng.choice([1, 2]) if limited else 9999,
            "bytes_limit": rng.choice([50, 100, 200]) if limited else 10**9,
            "message_limit": rng.choice([20, 60, 1000]),
            "threshold": rng.choice([0, 30, 10**6]),
        }
        self.ws = make_state(self.config)
        self.run_id = 0
        self.paused = False
        self.events: list[dict] = []
        self.steps: list[dict] = []
        self.pending_retry: list[str] = []
        self.executing: list[list] = []

    def peers(self, at_least: int = 1) -> list[str]:
        return self.rng.sample(PEERS, self.rng.choice([at_least, 1, 1, 2, 3]))

    def some(self, keys: list[str], most: int = 4) -> list[str]:
        return self.rng.sample(keys, min(len(keys), self.rng.randint(1, most)))

    def propose(self) -> dict | None:
        rng, ws = self.rng, self.ws
        stimulus = f"s{len(self.events)}"
        kind = rng.choices(
            [
                "compute",
                "execute-done",
                "gather-done",
                "free",
                "remove-replicas",
                "acquire",
                "steal",
                "refresh",
                "remove-worker",
                "cancel",
                "pause",
                "unpause",
                "retry",
                "find-missing",
                "secede",
                "update-data",
            ],
            [26, 22, 18, 8, 3, 5, 3, 5, 1, 1, 1, 2, 4, 2, 4, 1],
        )[0]
        if kind == "compute":
            key = rng.choice(self.keys)
            self.run_id += 1
            who_has = {}
            for dep in self.deps[key]:
                who_has[dep] = self.peers()
                if dep in ws.data and rng.random() < 0.8:
                    who_has[dep] = [ADDRESS, *who_has[dep]]
            return {
                "kind": "compute-task",
                "key": key,
                "run_id": self.run_id,
                "who_has": who_has,
                "nbytes": {dep: rng.choice([1, 10, 40, 120]) for dep in who_has},
                "priority": [rng.choice([0, 0, -1, 2]), rng.choice([1, 1, 2]), self.keys.index(key)],
                "resource_restrictions": rng.choice([{}, {}, {}, {}, {"R": 1}, {"R": 2}, {"R": 1, "Q": 1}]),
                "stimulus_id": stimulus,
            }
        if kind == "execute-done":
            if not self.executing:
                return None
            key, run_id = rng.choice(self.executing)
            how = rng.choices(["execute-success", "execute-failure", "reschedule"], [8, 2, 1])[0]
            event = {"kind": how, "key": key, "stimulus_id": stimulus}
            if how != "reschedule":
                event["run_id"] = run_id
            if how == "execute-success":
                event["nbytes"] = rng.choice([1, 10, 100])
            return event
        if kind == "gather-done":
            if not ws.in_flight_workers:
                return None
            worker = rng.choice(list(ws.in_flight_workers))
            total = self.gathering[worker]
            how = rng.choices(
                ["gather-success", "gather-busy", "gather-network-failure", "gather-failure"], [8, 2, 2, 1]
            )[0]
            event = {"kind": how, "worker": worker, "total_nbytes": total, "stimulus_id": stimulus}
            if how == "gather-success":
                keys = list(ws.in_flight_workers[worker])
                event["keys"] = keys if rng.random() < 0.7 else [k for k in keys if rng.random() < 0.5]
            return event
        if kind == "free":
            # As the scheduler does: dependents first. Sometimes everything.
            keys = self.some(self.keys, 3 if rng.random() < 0.8 else self.n_keys)
            return {"kind": "free-keys", "keys": keys, "stimulus_id": stimulus}
        if kind == "remove-replicas":
            return {"kind": "remove-replicas", "keys": self.some(self.keys), "stimulus_id": stimulus}
        if kind == "acquire":
            who_has = {key: self.peers() for key in self.some(self.keys)}
            nbytes = {key: rng.choice([1, 10, 40, 120]) for key in who_has}
            return {"kind": "acquire-replicas", "who_has": who_has, "nbytes": nbytes, "stimulus_id": stimulus}
        if kind == "steal":
            return {"kind": "steal-request", "key": rng.choice(self.keys), "stimulus_id": stimulus}
        if kind == "refresh":
            who_has = {key: self.peers(0) for key in self.some(self.keys)}
            return {"kind": "refresh-who-has", "who_has": who_has, "stimulus_id": stimulus}
        if kind == "remove-worker":
            return {"kind": "remove-worker", "worker": rng.choice(PEERS), "stimulus_id": stimulus}
        if kind == "cancel":
            key = rng.choice(self.keys)
            return {"kind": "cancel-compute", "key": key, "stimulus_id": stimulus}
        if kind in ("pause", "unpause"):
            if (kind == "unpause") != self.paused:
                return None
            return {"kind": kind, "stimulus_id": stimulus}
        if kind == "retry":
            if not self.pending_retry:
                return None
            return {"kind": "retry-busy-worker", "worker": rng.choice(self.pending_retry), "stimulus_id": stimulus}
        if kind == "find-missing":
            return {"kind": "find-missing", "stimulus_id": stimulus}
        if kind == "secede":
            if not self.executing:
                return None
            key = rng.choice(self.executing)[0]
            return {"kind": "secede", "key": key, "compute_duration": 1.5, "stimulus_id": stimulus}
        assert kind == "update-data"
        ok = ("released", "fetch", "missing", "memory", "error")
        keys = [k for k in self.some(self.keys, 2) if k not in ws.tasks or ws.tasks[k].state in ok]
        return {"kind": kind, "keys": keys, "stimulus_id": stimulus} if keys else None

    def apply(self, event: dict) -> dict:
        ws = self.ws
        before = states_of(ws)
        instructions = ws.handle_stimulus(to_stock(event))
        ws.validate_state()
        after = states_of(ws)
        changed = {k: after.get(k) for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
        kind = event["kind"]
        if kind in ("execute-success", "execute-failure", "reschedule"):
            self.executing = [e for e in self.executing if e[0] != event["key"]]
        elif kind.startswith("gather-"):
            del self.gathering[event["worker"]]
        elif kind == "retry-busy-worker":
            self.pending_retry.remove(event["worker"])
        elif kind in ("pause", "unpause"):
            self.paused = kind == "pause"
        for instruction in instructions:
            if isinstance(instruction, wsm.Execute):
                self.executing.append([instruction.key, ws.tasks[instruction.key].run_id])
            elif isinstance(instruction, wsm.GatherDep):
                self.gathering[instruction.worker] = instruction.total_nbytes
            elif isinstance(instruction, wsm.RetryBusyWorkerLater):
                self.pending_retry.append(instruction.worker)
        return {
            "event": event,
            "instructions": [simplify(i) for i in instructions],
            "changed": dict(sorted(changed.items())),
            "data": sorted(ws.data),
            "nbytes": ws.nbytes,
            "incoming": ws.transfer_incoming_bytes,
        }

    def replay(self) -> None:
        self.ws = make_state(self.config)
        self.paused = False
        self.executing, self.gathering, self.pending_retry = [], {}, []
        self.steps = [self.apply(event) for event in self.events]

    def run(self, n_events: int) -> dict:
        self.gathering: dict[str, int] = {}
        tries = 0
        while len(self.events) < n_events and tries < 4 * n_events:
            tries += 1
            event = self.propose()
            if event is None:
                continue
            try:
                step = self.apply(event)
            except Exception:
                self.rejected = getattr(self, "rejected", 0) + 1
                self.replay()
                continue
            self.events.append(event)
            self.steps.append(step)
        return {"config": self.config, "steps": self.steps}


def main() -> None:
    path = sys.argv[1]
    n_scenarios, n_events, first = (
        (int(a) for a in [*sys.argv[2:], 120, 120, 0][:3])
        if len(sys.argv) > 4
        else (
            int(sys.argv[2]) if len(sys.argv) > 2 else 120,
            int(sys.argv[3]) if len(sys.argv) > 3 else 120,
            0,
        )
    )
    patch()
    scenarios = []
    rejected = total = 0
    for seed in range(first, first + n_scenarios):
        scenario = Scenario(seed)
        scenarios.append(scenario.run(n_events))
        rejected += getattr(scenario, "rejected", 0)
        total += len(scenario.events)
    with open(path, "w") as f:
        json.dump({"address": ADDRESS, "valueSize": len(VALUE), "scenarios": scenarios}, f, separators=(",", ":"))
        f.write("\n")
    print(f"{total} events kept, {rejected} rejected by the original")


if __name__ == "__main__":
    main()
