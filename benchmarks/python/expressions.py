"""Expressions as clients send them, for ``src/native-graphs.ts``: msgpack of name -> {header, frames, keys, tasks}."""

import operator
import sys

import msgpack
from dask._expr import LLGExpr
from dask._task_spec import Task, TaskRef
from distributed.client import _MapExpr
from distributed.protocol.serialize import serialize, to_serialize


def record(expr, keys, tasks):
    header, frames = serialize(to_serialize(expr), on_error="raise")
    header["num-sub-frames"] = len(frames)
    return {
        "header": msgpack.packb(header),
        "frames": [bytes(frame) for frame in frames],
        "keys": list(keys),
        "tasks": tasks,
    }


def mapped(func, n, **kwargs):
    expr = _MapExpr(func, (range(n),), key="neg", pure=True, annotations={}, kwargs=kwargs)
    return record(expr, expr.keys, n)


def hashed(name, i):
    return f"{name}-{i:032x}"


def sums(n):
    dsk = {}
    for i in range(n // 2):
        dsk[hashed("load", i)] = Task(hashed("load", i), operator.neg, i)
        refs = [TaskRef(hashed("load", max(i - j, 0))) for j in range(2)]
        dsk[hashed("sum", i)] = Task(hashed("sum", i), operator.add, *refs)
    return record(LLGExpr(dsk), [key for key in dsk if key.startswith("sum")], n)


def legacy(n):
    dsk = {}
    for i in range(n // 2):
        dsk[("load", i)] = (operator.neg, i)
        dsk[("sum", i)] = (operator.add, ("load", i), ("load", max(i - 1, 0)))
    return record(LLGExpr(dsk), [key for key in dsk if key[0] == "sum"], n)


def main():
    n = int(sys.argv[1])
    out = {
        "submit": record(LLGExpr({"neg-1": Task("neg-1", operator.neg, 1)}), ["neg-1"], 1),
        "submit by value": record(LLGExpr({"f-1": Task("f-1", lambda x: x + 1, 1)}), ["f-1"], 1),
        "map": mapped(operator.neg, n),
        "map by value": mapped(lambda x: x + 1, n),
        "map with keywords": mapped(sorted, n, reverse=True),
        "tasks": sums(n),
        "legacy": legacy(n),
    }
    sys.stdout.buffer.write(msgpack.packb(out))


if __name__ == "__main__":
    main()
