"""From the fields of ``update-graph`` to a materialised graph (Scheduler.update_graph, steps 1-3)."""

from __future__ import annotations

import contextlib
import gc
import textwrap
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from dask._expr import Expr, LLGExpr
from dask._task_spec import GraphNode, Task, convert_legacy_graph, parse_input
from dask.highlevelgraph import Layer, MaterializedLayer
from distributed.client import _MapExpr
from distributed.protocol.compression import decompress
from distributed.protocol.serialize import Pickled, Serialized, merge_and_deserialize
from distributed.utils import ensure_memoryview

_gc_lock = threading.Lock()
_gc_paused = 0


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a graph is millions of new objects, none of them garbage."""
    global _gc_paused
    with _gc_lock:
        _gc_paused += 1
        gc.disable()
    try:
        yield
    finally:
        with _gc_lock:
            _gc_paused -= 1
            if _gc_paused == 0:
                gc.enable()


def cull_own_keys(self: MaterializedLayer, keys: set, all_hlg_keys: Any) -> Any:
    """``Layer.cull`` that looks only at wanted keys of this layer.

    The library walks all keys that are still wanted anywhere for every layer. A graph of N delayed
    calls has N layers of one key, so that costs N * N. The result is the same: keys that are not in
    the layer never contribute.
    """
    mapping = self.mapping
    if len(mapping) < len(keys):
        keys = {k for k in mapping if k in keys}
        if len(keys) == len(mapping) and not self.has_legacy_tasks:
            return self, {k: set(node.dependencies) for k, node in mapping.items()}
    return Layer.cull(self, keys, all_hlg_keys)


def make_cull_linear() -> None:
    """Puts :func:`cull_own_keys` in place in this process, unless the library got its own."""
    if "cull" not in MaterializedLayer.__dict__:
        MaterializedLayer.cull = cull_own_keys  # type: ignore[method-assign,assignment]


def open_expression(expr: Serialized) -> Expr:
    """Opens the expression; RuntimeError with stock's words where it cannot be opened here."""
    try:
        return open_serialized(expr)
    except Exception as e:
        text = """\
            Error during deserialization of the task graph. This frequently
            occurs if the Scheduler and Client have different environments.
            For more information, see
            https://docs.dask.org/en/stable/deployment-considerations.html#consistent-software-environments
        """
        raise RuntimeError(textwrap.dedent(text)) from e


def open_serialized(value: Serialized) -> Any:
    header = dict(value.header)
    frames: list[Any] = [ensure_memoryview(frame) for frame in value.frames]
    if "compression" in header:
        frames = decompress(header, frames)
    return merge_and_deserialize(header, frames)


def open_pickled(value: Any) -> Any:
    """What is in a closed sub-message; other values are what they are."""
    if isinstance(value, Serialized):
        return open_serialized(value)
    if not isinstance(value, Pickled):
        return value
    from distributed.protocol import pickle

    frames: list[Any] = [ensure_memoryview(frame) for frame in value.frames]
    if frames and "compression" in value.header:
        frames = decompress(value.header, frames)
    return pickle.loads(value.header["pickled-obj"], buffers=frames)


def materialize(expr: Expr | dict) -> tuple[dict[Any, GraphNode], dict[str, dict]]:
    """The graph of an expression and its per-layer annotations (``_materialize_graph``).

    ``Client.recreate_task_locally`` asks for the data of dependencies with a plain dict, an empty one.
    """
    if isinstance(expr, dict):
        return convert_legacy_graph(expr), {}
    if type(expr) is _MapExpr and not expr.operand("kwargs"):
        return _map_tasks(expr), {}
    dsk = expr.__dask_graph__()
    annotations = {name: dict(values) for name, values in expr.__dask_annotations__().items()}
    return convert_legacy_graph(dsk), annotations


#: Values that :func:`parse_input` leaves as they are, alone or in a tuple.
_ATOMS = frozenset({int, float, str, bytes, bool, complex, type(None)})


def _map_tasks(expr: _MapExpr) -> dict[Any, GraphNode]:
    """``_MapExpr._layer`` for the common case; plain arguments are not parsed."""
    func = expr.operand("func")
    tasks: dict[Any, GraphNode] = {}
    for key, args in zip(expr.keys, zip(*expr.operand("iterables"), strict=False), strict=False):
        parsed: Any = args
        for arg in args:
            if type(arg) not in _ATOMS:
                parsed = parse_input(args)
                break
        tasks[key] = Task(key, func, *parsed)
    return tasks


def needs_cull(expr: Expr) -> bool:
    """All other expressions cull themselves."""
    return isinstance(expr, LLGExpr)


def cull(dsk: Mapping[Any, GraphNode], keys: Any) -> dict[Any, GraphNode]:
    """What is reachable from ``keys`` (``distributed.scheduler._cull``)."""
    stack = list(keys)
    out: dict[Any, GraphNode] = {}
    while stack:
        key = stack.pop()
        if key in out:
            continue
        node = dsk.get(key)
        if node is None:
            continue
        out[key] = node
        stack.extend(node.dependencies)
    return out


class Annotations:
    """The annotations of each task, merged, as numbers of the different sets among them."""

    def __init__(self, common: dict[str, Any] | None, by_type: dict[str, dict]) -> None:
        self._constant = {k: v for k, v in (common or {}).items() if not callable(v)}
        self._callable = {k: v for k, v in (common or {}).items() if callable(v)}
        self._order = list(common or ())
        self._by_type = {k: v for k, v in by_type.items() if v}
        self.sets: list[dict[str, Any]] = []
        self._by_identity: dict[tuple, int] = {}
        self._by_repr: dict[bytes, int] = {}
        self._kept: list[Any] = []

    @property
    def empty(self) -> bool:
        return not (self._order or self._by_type)

    def number_of(self, key: Any) -> int:
        """Scheduler._apply_annotations: common ones first, a layer's own override unless None."""
        values: dict[str, Any] = {}
        for name in self._order:
            call = self._callable.get(name)
            values[name] = call(key) if call is not None else self._constant[name]
        for name, per_key in self._by_type.items():
            value = per_key.get(key)
            if value is not None:
                values[name] = value
        if not values:
            return -1
        identity = tuple([(name, id(value)) for name, value in values.items()])
        number = self._by_identity.get(identity)
        if number is None:
            number = self._intern(values)
            self._by_identity[identity] = number
            # an id stays its own only while the value lives
            self._kept.append(values)
        return number

    @property
    def common(self) -> dict[str, Any]:
        """What the whole graph was annotated with, as ``Computation.annotations`` has it."""
        return sendable_values({name: {**self._constant, **self._callable}[name] for name in self._order})

    def _intern(self, values: dict[str, Any]) -> int:
        from dask_ts.bridge import encode_message

        sendable = sendable_values(values)
        if len(self.sets) >= 100_000:  # a value of its own for every task: do not look for twins
            self.sets.append(sendable)
            return len(self.sets) - 1
        try:
            twin = b"\x00".join(bytes(f) for f in encode_message([{"annotations": sendable}]))
        except Exception as e:
            raise TypeError(f"annotations cannot be pickled: {values!r}") from e
        number = self._by_repr.setdefault(twin, len(self.sets))
        if number == len(self.sets):
            self.sets.append(sendable)
        return number


def sendable_values(values: dict[str, Any]) -> dict[str, Any]:
    """What msgpack cannot hold travels as a pickle."""
    from distributed.protocol.serialize import ToPickle

    from dask_ts.bridge import encode_message

    sendable: dict[str, Any] = {}
    for name, value in values.items():
        try:
            encode_message([{"value": value}])
            sendable[name] = value
        except Exception:
            sendable[name] = ToPickle(value)
    return sendable
