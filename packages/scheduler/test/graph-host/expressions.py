"""Writes expressions as clients send them: one msgpack map of name -> {header, frames, keys} to stdout."""

import operator
import sys

import cloudpickle
import dask.array as da
import msgpack
import numpy as np
from dask import annotate, delayed
from dask._expr import FinalizeCompute, LLGExpr
from dask._task_spec import Alias, Task, TaskRef
from dask.base import collections_to_expr
from dask.core import flatten
from distributed.client import _MapExpr
from distributed.protocol import pickle
from distributed.protocol.serialize import serialize, to_serialize


def inc(x):
    return x + 1


class Unopenable:
    def __dask_tokenize__(self):
        return type(self).__name__

    def __reduce__(self):
        return (operator.getitem, ({}, "missing"))


class KillsTheHost:
    def __dask_tokenize__(self):
        return type(self).__name__

    def __reduce__(self):
        return (eval, ("__import__('os').kill(__import__('os').getpid(), 9)",))


def record(expr, keys):
    header, frames = serialize(to_serialize(expr), on_error="raise")
    header["num-sub-frames"] = len(frames)
    return {"header": msgpack.packb(header), "frames": [bytes(f) for f in frames], "keys": list(keys)}


def computed(*collections):
    expr = FinalizeCompute(collections_to_expr(collections)).optimize()
    return record(expr, set(flatten(expr.__dask_keys__())))


big = np.arange(100_000, dtype="u1")
many = _MapExpr(operator.neg, (range(5000),), key="neg", pure=True, annotations={}, kwargs={})
large = _MapExpr(operator.neg, (range(50_000),), key="large", pure=True, annotations={}, kwargs={})
by_value = _MapExpr(lambda x: x + 1, (range(3),), key="lambda", pure=True, annotations={}, kwargs={})
with annotate(retries=2):
    annotated = delayed(inc)(1)
x = delayed(inc)(1)

out = {
    "submit": record(LLGExpr({"x": Task("x", operator.neg, 1), "unwanted": Task("unwanted", inc, 1)}), ["x"]),
    "on-futures": record(LLGExpr({"x": Task("x", operator.add, Alias("a", "a"), TaskRef(("b", 0)))}), ["x"]),
    "map": record(many, many.keys),
    "large": record(large, large.keys),
    "map-in-name": record(LLGExpr({"_MapExpr": Task("_MapExpr", operator.neg, 1)}), ["_MapExpr"]),
    "by-value": record(by_value, by_value.keys),
    "delayed": computed(delayed(operator.add)(x, delayed(inc)(x)), annotated),
    "array": computed((da.ones((4, 4), chunks=2) + 1).sum()),
    "tuple-keys": record(LLGExpr({("a", 0): 1, ("a", 1): (inc, ("a", 0))}), [("a", 1)]),
    "shared-buffer": record(LLGExpr({f"b-{i}": Task(f"b-{i}", len, big) for i in range(3)}), ["b-0", "b-1", "b-2"]),
    "unopenable": record(LLGExpr({"x": Task("x", inc, Unopenable())}), ["x"]),
    "kills": record(LLGExpr({"x": Task("x", inc, KillsTheHost())}), ["x"]),
    "pickles": {
        "annotations": pickle.dumps({"retries": 3, "priority": 1}),
        "callable-annotations": cloudpickle.dumps({"priority": lambda key: len(key)}),
        "metadata": pickle.dumps({"collections": [{"type": "Future"}]}),
        "inc": cloudpickle.dumps(inc),
        "by-host": cloudpickle.dumps(lambda ws: ws.host),
        "plain": pickle.dumps({"a": [1, 2.0, None]}),
    },
}
sys.stdout.buffer.write(msgpack.packb(out))
