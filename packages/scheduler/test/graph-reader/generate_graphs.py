"""Writes random graphs as clients send them, each as one msgpack map after its length (uint32, big endian).

``generate_graphs.py SEED COUNT``: fields ``header``, ``frames``, ``keys``, ``annotations``, ``code``, ``span_metadata``
(pickles) and ``label`` (the kind of graph).
"""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import math
import operator
import random
import struct
import sys
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dask
import msgpack
import numpy as np
from dask._expr import LLGExpr
from dask._task_spec import Alias, DataNode, Dict, List, Set, Task, TaskRef, Tuple, parse_input
from dask.base import collections_to_expr
from dask.core import flatten
from distributed.client import Future, SourceCode, _MapExpr
from distributed.protocol import pickle as distributed_pickle
from distributed.protocol.serialize import serialize, to_serialize

sys.path.insert(0, __file__.rpartition("/")[0])
import graph_functions as library


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Local:
    """Of ``__main__``: pickled by value."""

    a: Any
    b: list = field(default_factory=list)


class Random:
    def __init__(self, seed: int) -> None:
        self.random = r = random.Random(seed)
        self.choice = r.choice
        self.randrange = r.randrange
        self.chance = lambda p: r.random() < p

    # functions

    def func(self) -> Any:
        r = self.randrange(12)
        if r < 4:
            return self.choice([operator.neg, math.sqrt, library.inc, library.total, len, str, sum])
        if r == 4:
            return lambda *a, **k: (len(a), len(k))
        if r == 5:
            return self.closure()
        if r == 6:
            return functools.partial(library.total, self.randrange(100), b=self.small())
        if r == 7:
            return library.Holder(self.randrange(100)).method
        if r == 8:
            return operator.itemgetter(0)
        if r == 9:
            return self.recursive()
        if r == 10:
            return library.Holder
        return functools.partial(self.closure(), 1)

    def closure(self) -> Any:
        inside = self.data(1) if self.chance(0.9) else bytes(10_000)
        extra = self.choice([library, np, collections, None])

        def inner(*args, **kwargs):
            return inside, extra is None, len(args), sorted(kwargs)

        return inner

    def recursive(self) -> Any:
        def fib(n=3, *_, **__):
            return 1 if not isinstance(n, int) or n < 2 else fib(n - 1) + fib(n - 2)

        return fib

    # data

    def small(self) -> Any:
        return self.choice(
            [
                None,
                True,
                False,
                0,
                255,
                256,
                65535,
                65536,
                -1,
                2**31 - 1,
                2**31,
                -(2**31) - 1,
                2**70,
                -(2**63),
                1.0,
                -0.5,
                float("inf"),
                1e300,
                "",
                "text",
                "ü\u20ac\U0001f600",
                "x" * 300,
                b"",
                b"bytes",
                b"z" * 300,
                (),
                2 + 3j,
                ...,
            ]
        )

    def leaf(self) -> Any:
        r = self.randrange(22)
        if r < 12:
            return self.small()
        if r == 12:
            return np.arange(self.randrange(50), dtype=self.choice(["i4", "f8", "u1"]))
        if r == 13:
            return np.asfortranarray(np.ones((3, 4)))
        if r == 14:
            return self.choice([datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3), datetime.timedelta(1)])
        if r == 15:
            return self.choice([decimal.Decimal("1.5"), uuid.UUID(int=5), range(3), slice(1, None, 2)])
        if r == 16:
            return bytearray(b"array" * self.randrange(5))
        if r == 17:
            return frozenset([1, "a", (2, 3)])
        if r == 18:
            return self.choice([np.float64(1.5), np.int64(7), np.bool_(True)])
        if r == 19:
            return self.choice([library.inc, len, dict, lambda: 1])
        if r == 20:
            array = np.arange(10)
            array.flags.writeable = False
            return array
        return library.Record(self.randrange(10), "name")

    def data(self, depth: int) -> Any:
        if depth <= 0 or self.chance(0.4):
            return self.leaf()
        r = self.randrange(9)
        n = self.randrange(5)
        if r == 0:
            return [self.data(depth - 1) for _ in range(n)]
        if r == 1:
            return tuple(self.data(depth - 1) for _ in range(n))
        if r == 2:
            return {self.choice(["a", "b", 1, (1, "x"), None]): self.data(depth - 1) for _ in range(n)}
        if r == 3:
            return {self.choice([1, "s", None, (1, 2), 2.5]) for _ in range(n)}
        if r == 4:
            shared = self.data(depth - 1)
            return [shared, shared, {"again": shared}]
        if r == 5:
            return library.Point(self.leaf(), 2) if self.chance(0.9) else Point(self.leaf(), 2)
        if r == 6:
            return collections.OrderedDict(a=self.leaf(), b=1)
        if r == 7:
            return library.Record(self.data(depth - 1), [self.leaf()])
        return self.leaf()

    def large(self) -> Any:
        r = self.randrange(6)
        if r == 5:
            names = [f"a name that is remembered {i}" for i in range(400)]
            return [names, names[::-1], [(name,) for name in names]]
        if r == 0:
            return bytes(range(256)) * 400
        if r == 1:
            return np.arange(20_000)
        if r == 2:
            return "long " * 20_000
        if r == 3:
            return list(range(3000)) + ["s"] * 2000
        return bytearray(b"x" * 70_000)

    def cyclic(self) -> Any:
        """In an object of its own: ``parse_input`` does not end in a list that holds itself."""
        cycle: Any = [1]
        record = library.Record(cycle, None)
        cycle.append(self.choice([cycle, (cycle, 2), record, {"r": record}]))
        return record

    def key(self, i: int) -> Any:
        r = self.randrange(12)
        if r < 8:
            return f"task-{i}"
        if r == 8:
            return ("block", i)
        if r == 9:
            return ("block", "x" * 20, i, i + 1)
        if r == 10:
            return f"ключ-{i}"
        return ("deep", ("er", i), 1.5)

    # graphs

    def reference(self, known: list) -> Any:
        key = self.choice(known)
        r = self.randrange(4)
        return TaskRef(key) if r == 0 else Alias(key) if r == 1 else Future(key) if r == 2 else Alias("other", key)

    def argument(self, known: list, depth: int = 2) -> Any:
        if known and self.chance(0.3):
            return self.reference(known)
        if depth and self.chance(0.3):
            items = [self.argument(known, depth - 1) for _ in range(self.randrange(4))]
            r = self.randrange(4)
            if r == 0:
                return items
            if r == 1:
                return tuple(items)
            if r == 2:
                return {f"k{i}": item for i, item in enumerate(items)}
            return library.Point(items, 1)
        if self.chance(0.02):
            return self.large()
        if self.chance(0.03):
            return self.cyclic()
        return self.data(depth)

    def submit(self) -> tuple[Any, list]:
        key = self.key(self.randrange(1000))
        known = [self.key(i + 5000) for i in range(self.randrange(3))]
        args = [parse_input(self.argument(known)) for _ in range(self.randrange(4))]
        kwargs = {f"k{i}": parse_input(self.argument(known)) for i in range(self.randrange(3))}
        return LLGExpr({key: Task(key, self.func(), *args, **kwargs)}), [key]

    def map(self) -> tuple[Any, list]:
        n = self.randrange(20)
        known = [f"future-{i}" for i in range(3)] if self.chance(0.4) else []
        iterables: list = []
        for _ in range(self.choice([1, 1, 1, 2, 3])):
            r = self.randrange(5)
            if r == 0:
                start, step = self.randrange(-300, 300), self.choice([1, 3, -1, -400, 70_000, 2**33])
                iterables.append(range(start, start + n * step, step))
            elif r == 1:
                iterables.append([self.small() for _ in range(n)])
            elif r == 2:
                iterables.append(tuple(self.map_argument(known, 2) for _ in range(n)))
            else:
                iterables.append([self.map_argument(known, 2) for _ in range(n + self.randrange(2))])
        kwargs = {}
        if self.chance(0.4):
            for i in range(self.randrange(4)):
                kwargs[f"k{i}"] = self.map_argument(known, 1) if self.chance(0.8) else self.data(1)
        if self.chance(0.05):
            kwargs["large"] = self.large()
        expr = _MapExpr(
            self.func(), tuple(iterables), key="mapped", pure=self.chance(0.5), annotations={}, kwargs=kwargs
        )
        if self.chance(0.3):
            keys = [self.key(i) for i in range(max(map(len, iterables)))]
            if keys and self.chance(0.1):
                keys[-1] = keys[0]
            expr = _MapExpr(self.func(), tuple(iterables), key=keys, pure=True, annotations={}, kwargs=kwargs)
            list(expr.keys)
            return expr, keys
        expr.operands[-1] = [f"mapped-{uuid.UUID(int=self.random.getrandbits(128)).hex}" for _ in range(n)]
        return expr, list(expr.operands[-1])

    def map_argument(self, known: list, depth: int) -> Any:
        if known and self.chance(0.3):
            return Future(self.choice(known))
        if depth and known and self.chance(0.3):
            items = [self.map_argument(known, depth - 1) for _ in range(self.randrange(4))]
            r = self.randrange(5)
            if r == 0:
                return tuple(items)
            if r == 1:
                return {f"k{i}": item for i, item in enumerate(items)}
            if r == 2 and all(type(i) in (int, str, Future) for i in items):
                return set(items)
            return items
        if self.chance(0.8):
            return self.choice([self.small(), [self.small(), self.small()], {"a": self.small()}, np.arange(3)])
        return self.data(depth)

    def tasks(self) -> tuple[Any, list]:
        n = self.randrange(1, 15)
        dsk: dict = {}
        known: list = ["outside", ("outside", 1)] if self.chance(0.3) else []
        funcs = [self.func() for _ in range(3)]
        shared = self.data(2)
        for i in range(n):
            key = self.key(i)
            r = self.randrange(12)
            if r == 0:
                dsk[key] = DataNode(key, self.data(2))
            elif r == 1 and known:
                dsk[key] = Alias(key, self.choice(known))
            elif r == 2:
                kind = self.choice([List, Tuple])
                dsk[key] = kind(*[parse_input(self.argument(known)) for _ in range(2)], 1)
            elif r == 3:
                dsk[key] = Dict({"a": parse_input(self.argument(known)), "b": shared})
            elif r == 4:
                dsk[key] = Alias(key)
            elif r == 5 and known:
                refs = [TaskRef(k) for k in known[-2:]]
                dsk[key] = Set(*refs)
            else:
                args = [parse_input(self.argument(known)) for _ in range(self.randrange(3))]
                kwargs = {"shared": shared} if self.chance(0.3) else {}
                dsk[key] = Task(key, self.choice(funcs), *args, _data_producer=self.chance(0.2), **kwargs)
            known.append(key)
        wanted = [k for k in dsk if self.chance(0.4)] or [key]
        return LLGExpr(dsk), wanted

    def legacy(self) -> tuple[Any, list]:
        n = self.randrange(1, 12)
        dsk: dict = {}
        keys: list = ["outside"]
        funcs = [self.func() for _ in range(3)]
        for i in range(n):
            key = self.choice([f"x{i}", ("x", i), i, 1.5 + i, f"y-{i}"])
            r = self.randrange(8)
            if r == 0:
                dsk[key] = self.legacy_argument(keys, 2)
            elif r == 1:
                dsk[key] = self.choice(keys)
            elif r == 2:
                dsk[key] = [self.legacy_argument(keys, 1) for _ in range(3)]
            elif r == 3:
                dsk[key] = Future(self.choice(keys))
            elif r == 4:
                dsk[key] = Task(key, self.choice(funcs), TaskRef(self.choice(keys)), 1)
            else:
                dsk[key] = self.legacy_task(funcs, keys, 2)
            keys.append(key)
        if self.chance(0.1):
            dsk["itself"] = "itself"
        return LLGExpr(dsk), [k for k in dsk if self.chance(0.5)] or [key]

    def legacy_task(self, funcs: list, keys: list, depth: int) -> tuple:
        return (self.choice(funcs), *[self.legacy_argument(keys, depth) for _ in range(self.randrange(4))])

    def legacy_argument(self, keys: list, depth: int) -> Any:
        if self.chance(0.4):
            return self.choice(keys)
        if depth and self.chance(0.5):
            items = [self.legacy_argument(keys, depth - 1) for _ in range(self.randrange(4))]
            r = self.randrange(6)
            if r == 0:
                return items
            if r == 1:
                return tuple(items)
            if r == 2:
                return {f"k{i}": item for i, item in enumerate(items)}
            if r == 3:
                return self.legacy_task([library.inc, library.total, len], keys, depth - 1)
            if r == 4:
                return {i for i in items if type(i) in (int, str, float)}
            return Future(self.choice(keys))
        return self.small() if self.chance(0.8) else self.data(1)

    def delayed(self) -> tuple[Any, list]:
        """As `Client.compute` sends delayed calls."""
        made: list = []
        for i in range(self.randrange(1, 12)):
            func = dask.delayed(self.choice([operator.neg, library.inc, library.total, len]), pure=False)
            args = [self.delayed_argument(made, 2) for _ in range(self.randrange(4))]
            name = self.key(i) if self.chance(0.2) else None
            with dask.annotate(**({"priority": 1} if self.chance(0.02) else {})):
                made.append(func(*args, dask_key_name=name))
        wanted = [call for call in made if self.chance(0.3)] or made[-1:]
        expr = collections_to_expr(wanted, self.chance(0.9)).optimize()
        return expr, list(flatten(expr.__dask_keys__()))

    def delayed_argument(self, made: list, depth: int) -> Any:
        if made and self.chance(0.5):
            return self.choice(made)
        if depth and self.chance(0.3):
            items = [self.delayed_argument(made, depth - 1) for _ in range(self.randrange(4))]
            return self.choice([items, tuple(items), {f"k{i}": item for i, item in enumerate(items)}])
        return self.small()

    def graph(self) -> tuple[str, Any, list]:
        label = self.choice(["submit", "submit", "map", "map", "tasks", "legacy", "delayed"])
        expr, keys = getattr(self, label)()
        return label, expr, keys

    def annotations(self) -> dict:
        if self.chance(0.7):
            return {}
        return {
            name: value
            for name, value in {
                "priority": self.choice([1, 2.0, -5]),
                "workers": ["tcp://127.0.0.1:1", "alice"],
                "retries": 3,
                "allow_other_workers": True,
                "resources": {"GPU": 1, "MEM": 1e9},
                "span": {"name": ("a", "b"), "ids": ("1", "2")},
                "custom": self.choice([{"x": (1, 2)}, None, {1, 2}, b"bytes"]),
                "opaque": datetime.date(2020, 1, 2),
            }.items()
            if self.chance(0.15)
        }


def record(number: int, r: Random) -> dict[str, Any]:
    label, expr, keys = r.graph()
    header, frames = serialize(to_serialize(expr), on_error="raise")
    header["num-sub-frames"] = len(frames)
    code = (SourceCode("f()", 1, 2, "file.py"),) if r.chance(0.2) else ()
    metadata = {"collections": [{"type": "Future"}]} if r.chance(0.8) else {}
    return {
        "number": number,
        "label": label,
        "header": msgpack.packb(header),
        "frames": [bytes(frame) for frame in frames],
        "keys": keys,
        "annotations": distributed_pickle.dumps(r.annotations()),
        "code": distributed_pickle.dumps(code),
        "span_metadata": distributed_pickle.dumps(metadata),
    }


def main() -> None:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    out = sys.stdout.buffer
    for i in range(count):
        number = seed + i
        try:
            data = msgpack.packb(record(number, Random(number)))
        except Exception as e:
            print(f"graph {number}: {type(e).__name__}: {e}", file=sys.stderr)
            continue
        out.write(struct.pack(">I", len(data)) + data)


if __name__ == "__main__":
    main()
