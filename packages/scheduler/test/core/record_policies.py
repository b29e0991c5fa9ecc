"""Record what distributed's policies decide (stealing, memory, scaling down and up), for many random clusters.

    python record_policies.py OUT.json

The originals run on the state of a scheduler that was never started; their sets are replaced by ordered ones, so that
ties and orders are the same on every run: the newest stealable task first, replicated tasks in the order they came.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

import dask
from distributed.active_memory_manager import ActiveMemoryManagerExtension, ReduceReplicas, RetireWorker
from distributed.core import Status
from distributed.scheduler import Scheduler, WorkerState

STEALING_CASES = 40
AMM_CASES = 40
SCALING_CASES = 40
PREFIXES = {"pa": 0.05, "pb": 0.31, "pc": 0.9, "pd": 2.3, "pe": 7.1, "pf": 0.002}


class Ordered(dict):
    """A set that keeps its order."""

    def __init__(self, newest_first=False):
        super().__init__()
        self.newest_first = newest_first

    def __iter__(self):
        return reversed(list(self.keys())) if self.newest_first else super().__iter__()

    def add(self, item):
        self[item] = None

    def discard(self, item):
        self.pop(item, None)

    remove = discard


class Sent:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def send(self, message):
        self.log.append((self.name, message))


def address(name):
    return f"tcp://127.0.0.1:900{name[1:]}"


def name_of(where):
    return f"w{where[-1]}"


def make(case):
    scheduler = Scheduler(dashboard=False, validate=True)
    sent = []
    for worker in case["workers"]:
        where = address(worker["name"])
        ws = WorkerState(
            address=where,
            status=Status[worker["status"]],
            pid=1,
            name=worker["name"],
            nthreads=worker["nthreads"],
            memory_limit=worker.get("memory", 0),
            local_directory="",
            nanny=None,
            server_id=worker["name"],
            scheduler=scheduler,
        )
        ws.metrics = {"memory": 10**12, "spilled_bytes": {"memory": 0, "disk": 0}}
        scheduler.workers[where] = ws
        scheduler.stream_comms[where] = Sent(worker["name"], sent)
        scheduler.total_nthreads += ws.nthreads
        scheduler.total_memory += ws.memory_limit
        scheduler.aliases[ws.name] = where
        if ws.status == Status.running:
            scheduler.running.add(ws)
    scheduler.replicated_tasks = Ordered()
    steal = scheduler.extensions["stealing"]
    for where in scheduler.workers:
        steal.stealable[where] = tuple(Ordered(newest_first=True) for _ in range(15))
    for item in case["data"]:
        for holder in item["holders"]:
            held = {item["key"]: [address(holder)]}
            scheduler.update_data(who_has=held, nbytes={item["key"]: item["nbytes"]}, client="c")
    for item in case["tasks"]:
        ts = scheduler.new_task(item["key"], object(), "released")
        ts.priority = (0, 0, 0)
        for key in item["dependencies"]:
            ts.add_dependency(scheduler.tasks[key])
            dependency = scheduler.tasks[key]
            dependency.waiters = (dependency.waiters or set()) | {ts}
        if item["allowed"] is not None:
            ts.worker_restrictions = {address(name) for name in item["allowed"]}
            ts.loose_restrictions = item["loose"]
        scheduler._add_to_processing(ts, scheduler.workers[address(item["worker"])], "record")
        steal.put_key_in_stealable(ts)
    for ws in scheduler.workers.values():
        scheduler.check_idle_saturated(ws)
    return scheduler, steal, sent


def steal_case(rng):
    names = [f"w{i}" for i in range(rng.randint(2, 7))]
    workers = [{"name": name, "nthreads": rng.choice([1, 1, 2, 4]), "status": "running"} for name in names]
    data = [
        {
            "key": f"data-{i}",
            "nbytes": int(10 ** rng.uniform(2, 9)) + i,
            # Each worker holds something: two with the same load and the same bytes would be a tie.
            "holders": [names[i]] if i < len(names) else rng.sample(names, rng.choice([1, 1, min(2, len(names))])),
        }
        for i in range(rng.randint(len(names), 14))
    ]
    busy = rng.sample(names, rng.randint(1, max(1, len(names) - 1)))
    prefixes = rng.sample(list(PREFIXES), rng.randint(1, 4))
    tasks = []
    for i in range(rng.randint(1, 60)):
        worker = rng.choice(busy)
        allowed = None
        if rng.random() < 0.15:
            allowed = sorted({worker, rng.choice(names)})
        tasks.append(
            {
                "key": f"{rng.choice(prefixes)}-{i}",
                "dependencies": [item["key"] for item in rng.sample(data, rng.choice([0, 0, 1, 1, 2, 3]) % len(data))],
                "worker": worker,
                "allowed": allowed,
                "loose": allowed is not None and rng.random() < 0.3,
            }
        )
    return {"workers": workers, "data": data, "tasks": tasks}


def record_stealing(rng):
    case = steal_case(rng)
    scheduler, steal, sent = make(case)
    rounds = []
    for _ in range(3):
        events = len(scheduler.get_events("stealing"))
        steal.balance()
        found = [event for _, event in scheduler.get_events("stealing")[events:]]
        requests = [
            [key, name_of(victim), name_of(thief), level]
            for event in found
            for (_, level, key, _, victim, _, thief, _) in event[1]
        ]
        asked = [(name, message) for name, message in sent if message["op"] == "steal-request"]
        sent.clear()
        answers = []
        for _, message in asked:
            if rng.random() < 0.2:
                continue
            state = rng.choice(["ready", "ready", "executing"])
            answers.append([message["key"], state, message["stimulus_id"]])
            steal.move_task_confirm(key=message["key"], state=state, stimulus_id=message["stimulus_id"])
        sent.clear()
        rounds.append({"requests": requests, "answers": answers})
    return {**case, "rounds": rounds}


def record_amm(rng):
    names = [f"w{i}" for i in range(rng.randint(2, 7))]
    workers = [
        {"name": name, "nthreads": 1, "status": rng.choice(["running", "running", "running", "paused"])}
        for name in names
    ]
    workers[0]["status"] = "running"
    data = [
        {
            "key": f"data-{i}",
            "nbytes": rng.randint(1, 10**6),
            "holders": [names[i]] if i < len(names) else rng.sample(names, rng.randint(1, len(names))),
        }
        for i in range(rng.randint(len(names), 25))
    ]
    running = [worker["name"] for worker in workers if worker["status"] == "running"]
    tasks = [
        {
            "key": f"pa-{i}",
            "dependencies": [item["key"] for item in rng.sample(data, rng.randint(1, min(3, len(data))))],
            "worker": (worker := rng.choice(running)),
            "allowed": [worker],
            "loose": False,
        }
        for i in range(rng.randint(0, 8))
    ]
    case = {"workers": workers, "data": data, "tasks": tasks}
    scheduler, _, sent = make(case)
    amm = ActiveMemoryManagerExtension(scheduler, policies=set(), register=False, start=False, measure="managed")
    amm.policies = Ordered()
    case["reduceFirst"] = rng.random() < 0.5
    case["retiring"] = rng.sample(names, rng.choice([0, 1, 1, 2]))
    policies = [RetireWorker(address(name)) for name in case["retiring"]]
    policies.insert(0 if case["reduceFirst"] else len(policies), ReduceReplicas())
    for policy in policies:
        amm.add_policy(policy)
    for name in case["retiring"]:
        scheduler.handle_worker_status_change("closing_gracefully", address(name), "record")
    sent.clear()
    amm.run_once()
    case["sent"] = [
        [name, message["op"], sorted(message.get("who_has") or message["keys"])]
        for name, message in sent
        if message["op"].endswith("-replicas")
    ]
    case["gaveUp"] = [name_of(p.address) for p in policies if isinstance(p, RetireWorker) and p.no_recipients]
    case["done"] = [name_of(p.address) for p in policies if isinstance(p, RetireWorker) and p.done()]
    return case


def record_scaling(rng):
    case = steal_case(rng)
    for worker in case["workers"]:
        worker["memory"] = int(10 ** rng.uniform(6, 7.5))
    for item in case["data"]:
        item["nbytes"] = int(10 ** rng.uniform(2, 6)) + rng.randint(0, 99)
    case["tasks"] = case["tasks"][: rng.choice([0, 3, 60])]
    case["unrunnable"] = [f"{rng.choice(list(PREFIXES))}-n{i}" for i in range(rng.choice([0, 0, 5, 130]))]
    scheduler, _, _ = make(case)
    for key in case["unrunnable"]:
        ts = scheduler.new_task(key, object(), "released")
        ts.state = "no-worker"
        scheduler.unrunnable[ts] = 0
    choices = [
        {},
        {"n": rng.randint(-1, 4)},
        {"target": rng.randint(0, 5)},
        {"n": rng.randint(1, 4), "minimum": rng.randint(1, 3)},
        {"memory_ratio": rng.choice([0.1, 1, 3, 10])},
        {"memory_ratio": rng.choice([0.1, 1, 3]), "n": rng.randint(0, 3)},
    ]
    case["close"] = [
        [options, [name_of(where) for where in scheduler.workers_to_close(**options)]] for options in choices
    ]
    case["targets"] = [[seconds, scheduler.adaptive_target(seconds)] for seconds in (0.1, 1, 5, 60)]
    scheduler.MEMORY_REBALANCE_MEASURE = "managed"
    scheduler.MEMORY_REBALANCE_SENDER_MIN = 0.01
    moves = scheduler._rebalance_find_msgs(None, scheduler.workers.values())
    case["moves"] = [[sender.name, recipient.name, ts.key] for sender, recipient, ts in moves]
    return case


async def main():
    config = {
        "distributed.scheduler.default-task-durations": PREFIXES,
        "distributed.scheduler.worker-saturation": float("inf"),
        "distributed.scheduler.active-memory-manager.start": False,
    }
    with dask.config.set(config):
        result = {
            "durations": PREFIXES,
            "stealing": [record_stealing(random.Random(seed)) for seed in range(STEALING_CASES)],
            "amm": [record_amm(random.Random(seed)) for seed in range(AMM_CASES)],
        }
        result["scaling"] = [record_scaling(random.Random(seed)) for seed in range(SCALING_CASES)]
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, separators=(",", ":"))
        file.write("\n")
    print(sum(len(r["requests"]) for c in result["stealing"] for r in c["rounds"]), "requests")
    print(sum(len(names) for c in result["scaling"] for _, names in c["close"]), "workers to close")
    print(sum(len(c["moves"]) for c in result["scaling"]), "keys to rebalance")
    print(sum(len(c["sent"]) for c in result["amm"]), "messages of the memory manager")


asyncio.run(main())
