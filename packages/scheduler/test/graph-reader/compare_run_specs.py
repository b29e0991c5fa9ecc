"""Tells whether two run_specs mean the same. Reads length-prefixed msgpack from stdin, answers a JSON line for each.

A request is a list of pairs ``[pickle, buffers, pickle, buffers]``; the answer is a list of differences.
"""

from __future__ import annotations

import functools
import json
import pickle
import struct
import sys
import types
from typing import Any

import msgpack
import numpy as np
from dask._task_spec import GraphNode, TaskRef

sys.path.insert(0, __file__.rpartition("/")[0])

SETS = (set, frozenset)
SKIPPED_SLOTS = {"_token", "_repr", "_is_coro"}


class Comparison:
    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def same(self, a: Any, b: Any, path: str = "") -> str | None:
        """The path to the first difference."""
        # a class that is pickled by value is made anew, but keeps its name
        if type(a).__qualname__ != type(b).__qualname__ and not (isinstance(a, type) and isinstance(b, type)):
            return f"{path}: {type(a)} is not {type(b)}"
        identity = (id(a), id(b))
        if identity in self.seen:
            return None
        self.seen.add(identity)
        if isinstance(a, GraphNode):
            if a.data_producer is False and getattr(a, "kwargs", {}).get("typ", getattr(a, "klass", None)) in SETS:
                # in the order of a set, which may be another one in each process
                return self.same(*[sorted(map(repr, node.args)) for node in (a, b)], f"{path}.args")
            slots = [s for s in a.get_all_slots() if s not in SKIPPED_SLOTS]
            return self.items([getattr(a, s, None) for s in slots], [getattr(b, s, None) for s in slots], path, slots)
        if isinstance(a, TaskRef):
            return self.same(a.key, b.key, f"{path}.key")
        if isinstance(a, types.FunctionType):
            return self.functions(a, b, path)
        if isinstance(a, types.ModuleType):
            return None if a is b else f"{path}: {a} and {b}"
        if isinstance(a, types.MethodType):
            return self.same(a.__self__, b.__self__, f"{path}.__self__")
        if isinstance(a, functools.partial):
            return self.items([a.func, a.args, a.keywords], [b.func, b.args, b.keywords], path)
        if isinstance(a, np.ndarray):
            same = a.dtype == b.dtype and a.flags.writeable == b.flags.writeable and np.array_equal(a, b)
            order = a.flags.f_contiguous == b.flags.f_contiguous
            return None if same and order else f"{path}: arrays"
        if isinstance(a, (list, tuple)):
            return self.items(a, b, path)
        if isinstance(a, dict):
            if list(a) != list(b):
                return f"{path}: keys {list(a)} and {list(b)}"
            return self.items(list(a.values()), list(b.values()), path, list(a))
        if isinstance(a, float):
            return None if repr(a) == repr(b) else f"{path}: {a!r} and {b!r}"
        if hasattr(a, "__dict__") and not callable(a):
            return self.same(vars(a), vars(b), path)
        if isinstance(a, type):
            return None if a.__qualname__ == b.__qualname__ else f"{path}: {a} and {b}"
        try:
            equal = a == b or repr(a) == repr(b)
        except Exception as e:
            return f"{path}: {e!r}"
        return None if equal else f"{path}: {a!r} and {b!r}"

    def functions(self, a: Any, b: Any, path: str) -> str | None:
        if a is b:
            return None
        cells = [[c.cell_contents for c in f.__closure__ or ()] for f in (a, b)]
        facts = [
            (f.__qualname__, f.__module__, f.__code__.co_code, f.__code__.co_consts[:1], f.__defaults__) for f in (a, b)
        ]
        if repr(facts[0]) != repr(facts[1]):
            return f"{path}: functions {facts}"
        own = [{k: v for k, v in f.__globals__.items() if k != "__builtins__"} for f in (a, b)]
        return self.same(*cells, f"{path}.closure") or self.same(
            *[{k: own_i[k] for k in sorted(own_i)} for own_i in own], f"{path}.globals"
        )

    def items(self, a: Any, b: Any, path: str, names: Any = None) -> str | None:
        if len(a) != len(b):
            return f"{path}: {len(a)} and {len(b)} items"
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            found = self.same(x, y, f"{path}.{names[i] if names else i}")
            if found:
                return found
        # what is one object in the first is one in the second
        for i in range(min(len(a), 50)):
            for j in range(i):
                if isinstance(a[i], (list, dict, np.ndarray)) and (a[i] is a[j]) != (b[i] is b[j]):
                    return f"{path}: items {j} and {i} are one object only once"
        return None


def difference(pair: list) -> str | None:
    first, first_buffers, second, second_buffers = pair
    # workers get them in memory of their own
    a = pickle.loads(first, buffers=[bytearray(b) for b in first_buffers])
    b = pickle.loads(second, buffers=[bytearray(b) for b in second_buffers])
    if a.dependencies != b.dependencies:
        return f"dependencies {a.dependencies} and {b.dependencies}"
    if a.data_producer != b.data_producer or a.is_coro != b.is_coro:
        return "data_producer or is_coro"
    return Comparison().same(a, b)


def main() -> None:
    stream = sys.stdin.buffer
    while head := stream.read(4):
        pairs = msgpack.unpackb(stream.read(struct.unpack(">I", head)[0]), strict_map_key=False)
        found = []
        for i, pair in enumerate(pairs):
            try:
                text = difference(pair)
            except Exception as e:
                text = f"{type(e).__name__}: {e}"
            if text:
                found.append(f"{i}: {text}")
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
