"""Expressions as clients send them, and both ways to open them: stock's functions and ours."""

from __future__ import annotations

import pickle
import struct
from array import array
from typing import Any

import msgpack
from dask._expr import FinalizeCompute, LLGExpr
from dask.base import collections_to_expr
from distributed.protocol.serialize import Pickled, Serialized, ToPickle, serialize

from dask_ts import graph_host, graph_open
from dask_ts.bridge import decode_message, encode_message


def compute_expression(*collections: Any) -> Any:
    """What ``Client.compute`` sends."""
    return FinalizeCompute(collections_to_expr(list(collections))).optimize()


def persist_expression(*collections: Any) -> Any:
    return collections_to_expr(list(collections)).optimize()


def serialized(expr: Any) -> Serialized:
    return Serialized(*serialize(expr, on_error="raise", serializers=["pickle"]))


def flat_keys(expr: Any) -> set:
    from dask.core import flatten

    return set(flatten(expr.__dask_keys__()))


def stock(expr: Any, keys: Any) -> tuple[dict, dict]:
    """distributed.scheduler's own steps on a freshly unpickled expression."""
    from distributed.protocol.serialize import deserialize
    from distributed.scheduler import _cull, _materialize_graph

    ser = serialized(expr)
    opened = deserialize(ser.header, ser.frames)
    dsk, annotations = _materialize_graph(opened, validate=False)
    if isinstance(opened, LLGExpr):
        dsk = _cull(dsk, set(keys))
    return dsk, annotations


class FakeBridge:
    def __init__(self) -> None:
        self.sent: list[dict] = []

    def send(self, message: dict) -> None:
        # over the wire and back, as the parent sees it
        self.sent.extend(decode_message([memoryview(f) for f in encode_message([message])]))


class FakeHost:
    def __init__(self) -> None:
        self.bridge = FakeBridge()


class Opened:
    """A graph put together from its chunks, as the TypeScript reader does it."""

    def __init__(self, chunks: list[dict], reply: dict) -> None:
        self.chunks = chunks
        self.reply = reply
        self.keys: list = []
        self.dependencies: dict[Any, set] = {}
        self.flags: dict[Any, int] = {}
        self.nodes: dict[Any, Any] = {}
        self.annotations: dict[Any, dict] = {}
        self.spec_sizes: dict[Any, int] = {}
        buffers: list[Any] = []
        lists: list[tuple[Any, list[int]]] = []
        for chunk in chunks:
            assert chunk["first"] == len(self.keys)
            deps = iter(array("i", bytes(chunk["deps"])))
            ends = array("I", bytes(chunk["spec_ends"]))
            numbers = array("i", bytes(chunk["annotation_of"])) if chunk["annotation_of"] else None
            buffers.extend(p.frames[0] for p in chunk["buffers"])
            with_buffers = {task: rest for task, *rest in chunk["with_buffers"]}
            start = 0
            for i, key in enumerate(chunk["keys"]):
                self.keys.append(key)
                count = struct.unpack_from("<i", chunk["dep_counts"], 4 * i)[0]
                lists.append((key, [next(deps) for _ in range(count)]))
                self.flags[key] = chunk["flags"][i]
                header = msgpack.unpackb(chunk["specs"][start : ends[i]])
                start = ends[i]
                used = with_buffers.get(chunk["first"] + i, ())
                assert header["num-sub-frames"] == len(used) == len(header["compression"])
                self.spec_sizes[key] = len(header["pickled-obj"])
                # plain pickle.loads, as a stock worker without this package has it
                self.nodes[key] = pickle.loads(header["pickled-obj"], buffers=[buffers[n] for n in used])
                if numbers is not None and numbers[i] >= 0:
                    self.annotations[key] = reply["annotation_sets"][numbers[i]]
        total = len(self.keys)
        assert total == reply["total"]
        names = [*self.keys, *reply["external"]]
        for key, list_ in lists:
            self.dependencies[key] = {names[n] for n in list_}
            assert len(self.dependencies[key]) == len(list_)
        self.buffers = buffers


def ours(
    expr: Any,
    keys: Any,
    annotations: dict | None = None,
    code: Any = (),
    span_metadata: dict | None = None,
) -> Opened:
    """The graph host's op, with messages that went through the bridge's codec."""
    fields = {
        "expr": serialized(expr),
        "keys": list(keys),
        "annotations": ToPickle(annotations or {}),
        "code": ToPickle(code),
        "span_metadata": ToPickle(span_metadata or {}),
    }
    (sent,) = decode_message([memoryview(bytes(f)) for f in encode_message([fields])])
    assert isinstance(sent["expr"], Serialized) and isinstance(sent["code"], Pickled)
    host = FakeHost()
    reply = graph_host.open_graph(host, 1, **sent)  # type: ignore[arg-type]
    (reply,) = decode_message([memoryview(f) for f in encode_message([reply])])
    return Opened(host.bridge.sent, reply)


def execute(nodes: dict[Any, Any], known: dict | None = None) -> dict:
    """Runs every task, each on the results of its dependencies."""
    values: dict[Any, Any] = dict(known or {})
    todo = list(nodes)
    while todo:
        left = []
        for key in todo:
            node = nodes[key]
            if node.dependencies <= values.keys():
                values[key] = node({d: values[d] for d in node.dependencies})
            else:
                left.append(key)
        assert len(left) < len(todo), f"a cycle or a lost dependency: {left[:5]}"
        todo = left
    return values


def same(a: Any, b: Any) -> bool:
    """Equality that knows arrays and frames."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if hasattr(a, "equals"):
        return bool(a.equals(b))
    if hasattr(a, "dtype"):
        return bool((a == b).all())
    try:
        return bool(a == b)
    except Exception:
        return repr(a) == repr(b)


def assert_same_graph(expr: Any, keys: Any, run: bool = True) -> Opened:
    """Both ways give the same tasks, edges and results."""
    dsk, _ = stock(expr, keys)
    opened = ours(expr, keys)
    # the library's cull may leave more than is wanted, depending on the order of its sets
    dsk = graph_open.cull(dsk, keys)
    needed = graph_open.cull(opened.nodes, keys)
    assert set(needed) == set(dsk)
    if isinstance(expr, LLGExpr):
        assert set(opened.keys) == set(dsk)
    assert {k: opened.dependencies[k] for k in dsk} == {k: set(v.dependencies) for k, v in dsk.items()}
    for key, node in dsk.items():
        assert type(opened.nodes[key]).__name__ == type(node).__name__
        assert opened.nodes[key].dependencies == node.dependencies
        assert (opened.flags[key] & 1) == (1 if node.data_producer else 0)
    if run:
        expected, got = execute(dsk), execute(needed)
        for key in keys:
            if key in expected:
                assert same(expected[key], got[key]), key
    return opened
