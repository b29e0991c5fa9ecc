"""Every kind of expression opens as stock's scheduler opens it."""

from __future__ import annotations

import operator
import random

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask._expr import HLGExpr, LLGExpr
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed.client import SourceCode, _MapExpr

from dask_ts import graph_host, graph_open
from dask_ts.bridge import decode_message, encode_message
from graphs import (
    assert_same_graph,
    compute_expression,
    execute,
    flat_keys,
    ours,
    persist_expression,
    serialized,
    stock,
)


@pytest.fixture(params=["library cull", "linear cull"], autouse=True)
def cull_mode(request, monkeypatch):
    if request.param == "linear cull":
        monkeypatch.setattr(MaterializedLayer, "cull", graph_open.cull_own_keys, raising=False)
    return request.param


def inc(x):
    return x + 1


def map_expression(func, *iterables, pure=True, **kwargs):
    return _MapExpr(func, iterables, key="inc", pure=pure, annotations={}, kwargs=kwargs)


def test_submit():
    expr = LLGExpr({"x": Task("x", inc, 1)})
    opened = assert_same_graph(expr, ["x"])
    assert opened.flags["x"] == 0


def test_submit_on_futures():
    expr = LLGExpr({"x": Task("x", operator.add, Alias("a", "a"), [1, TaskRef("b")])})
    opened = assert_same_graph(expr, ["x"], run=False)
    assert set(opened.reply["external"]) == set(opened.dependencies["x"])
    assert "a" in opened.reply["external"]


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_map(n):
    expr = map_expression(operator.neg, range(n))
    opened = assert_same_graph(expr, list(expr.keys))
    assert [c["first"] for c in opened.chunks] == list(range(0, n, 2000))


def test_map_with_kwargs():
    expr = map_expression(lambda x, y, big: x + y + len(big), range(3), [4, 5, 6], big=b"x" * 200_000)
    assert_same_graph(expr, list(expr.keys))


def test_map_without_keys_and_llg_without_keys():
    message = [{"expr": serialized(LLGExpr({"x": Task("x", inc, 1)}))}]
    (fields,) = decode_message([memoryview(bytes(f)) for f in encode_message(message)])
    assert graph_host.open_graph(None, 1, **fields) == {"needs": "keys"}  # type: ignore[arg-type]


def test_llg_is_culled():
    dsk = {"a": Task("a", inc, 1), "b": Task("b", inc, TaskRef("a")), "c": Task("c", inc, 2)}
    opened = assert_same_graph(LLGExpr(dsk), ["b"])
    assert set(opened.keys) == {"a", "b"}


def test_legacy_tuples():
    dsk = {
        "a": 1,
        ("b", 0): (inc, "a"),
        "c": [("b", 0), (inc, 5), {"d": "a"}],
        "d": "c",
        "e": (sum, ["a", ("b", 0)]),
        "self": "self",
    }
    opened = assert_same_graph(LLGExpr(dsk), ["c", "d", "e", "self"])
    assert "self" not in opened.nodes


@pytest.mark.parametrize("tasks", [1, 30])
def test_delayed(tasks):
    leaves = [delayed(inc)(i) for i in range(tasks)]
    total = delayed(sum)(leaves)
    extra = delayed(operator.add)(total, leaves[0])
    for collections in [(total,), (total, extra), tuple(leaves), ([total, {"a": extra}],)]:
        collections = dask.base.unpack_collections(*collections)[0]
        expr = compute_expression(*collections)
        assert_same_graph(expr, flat_keys(expr))
        expr = persist_expression(*collections)
        assert_same_graph(expr, flat_keys(expr))


def random_delayed(rng: random.Random, n: int):
    nodes = [delayed(i) if rng.random() < 0.2 else delayed(inc)(i) for i in range(3)]
    for i in range(n):
        picks = rng.sample(nodes, rng.randint(1, min(4, len(nodes))))
        kind = rng.random()
        if kind < 0.6:
            nodes.append(delayed(lambda *a: sum(a))(*picks))
        elif kind < 0.8:
            nodes.append(delayed(lambda a, b: sum(a) + b["x"])(picks, {"x": picks[0]}))
        elif kind < 0.9:
            nodes.append(delayed(inc)(picks[0], dask_key_name=f"named-{i}"))
        else:
            two = delayed(lambda a: (a, a + 1), nout=2)(picks[0])
            nodes.extend([two[0], two[1]])
    return nodes


@pytest.mark.parametrize("seed", range(12))
def test_random_delayed_graphs(seed):
    rng = random.Random(seed)
    nodes = random_delayed(rng, rng.randint(1, 60))
    wanted = rng.sample(nodes, rng.randint(1, min(5, len(nodes))))
    # the library's fusion takes one collection only
    with dask.config.set({"optimization.fuse.delayed": len(wanted) == 1 and rng.random() < 0.5}):
        for expr in (compute_expression(*wanted), persist_expression(*wanted)):
            assert_same_graph(expr, flat_keys(expr))


@pytest.mark.parametrize("seed", range(20))
def test_linear_cull_gives_what_the_library_gives(seed):
    rng = random.Random(seed)
    layers, dependencies, keys = {}, {}, []
    legacy = seed % 3 == 0
    for i in range(rng.randint(1, 15)):
        mapping = {}
        own, needs = [], set()
        for j in range(rng.randint(1, 6)):
            key = (f"l{i}", j)
            pool = keys + own
            picks = rng.sample(pool, rng.randint(0, min(3, len(pool))))
            mapping[key] = (
                (sum, picks) if legacy and rng.random() < 0.5 else Task(key, lambda *a: len(a), *map(TaskRef, picks))
            )
            needs |= {p[0] for p in picks if p[0] != f"l{i}"}
            own.append(key)
        keys += own
        layers[f"l{i}"] = MaterializedLayer(mapping)
        dependencies[f"l{i}"] = needs
    hlg = HighLevelGraph(layers, dependencies)
    wanted = rng.sample(keys, rng.randint(1, len(keys)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaterializedLayer, "cull", graph_open.Layer.cull, raising=False)
        expected = hlg.cull(wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaterializedLayer, "cull", graph_open.cull_own_keys, raising=False)
        got = hlg.cull(wanted)
    # What is wanted is the same. What is left beside it depends on the order of sets in the library
    # (it keeps a whole layer where as many keys are wanted as it has), and never becomes a task.
    merged, merged_expected = graph_open.convert_legacy_graph(got), graph_open.convert_legacy_graph(expected)
    needed, needed_expected = graph_open.cull(merged, wanted), graph_open.cull(merged_expected, wanted)
    assert {k: n.dependencies for k, n in needed.items()} == {k: n.dependencies for k, n in needed_expected.items()}


def test_arrays():
    x = da.ones((40, 40), chunks=10)
    y = da.from_array(np.arange(1600.0).reshape(40, 40), chunks=10)
    for expr in [
        compute_expression((x + 1).sum()),
        compute_expression(y.mean(axis=0), (x @ y).T),
        persist_expression(x + y, y.rechunk((20, 5))),
        compute_expression(da.overlap.overlap(y, 1, "reflect")),
        compute_expression(delayed(np.sum)(y), x),
    ]:
        assert_same_graph(expr, flat_keys(expr))


def test_bags():
    bag = db.from_sequence(range(50), npartitions=7)
    odd = bag.map(inc).filter(lambda x: x % 2).sum()
    for b in [odd, bag.map(str).frequencies(), bag.fold(operator.add)]:
        expr = compute_expression(b)
        assert_same_graph(expr, flat_keys(expr))


def test_dataframes():
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    df = dd.from_pandas(pd.DataFrame({"a": range(100), "b": [i % 5 for i in range(100)]}), npartitions=5)
    for collection in [df.a.sum(), df.groupby("b").mean(), df.merge(df, on="b", shuffle_method="tasks"), df]:
        expr = compute_expression(collection)
        assert_same_graph(expr, flat_keys(expr))
    expr = persist_expression(df + 1, df.a.mean())
    assert_same_graph(expr, flat_keys(expr))


def test_p2p_barrier_is_marked():
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    df = dd.from_pandas(pd.DataFrame({"a": range(100)}), npartitions=5)
    with dask.config.set({"dataframe.shuffle.method": "p2p"}):
        expr = compute_expression(df.shuffle("a"))
    opened = assert_same_graph(expr, flat_keys(expr), run=False)
    assert [k for k, flag in opened.flags.items() if flag & 2] == [
        k for k in opened.keys if str(k).startswith("shuffle-barrier-")
    ]
    assert sum(flag >> 1 for flag in opened.flags.values()) == 1


def test_client_get_with_high_level_graph():
    hlg = da.ones(10, chunks=5).sum().dask
    expr = HLGExpr(hlg)
    assert_same_graph(expr, flat_keys(expr))


def test_plain_dicts_are_graphs():
    # Client.recreate_task_locally sends {} to get hold of the dependencies; stock's scheduler fails on it
    assert graph_open.materialize({}) == ({}, {})
    tasks, annotations = graph_open.materialize({"x": (inc, 1)})
    assert (tasks["x"](), annotations) == (2, {})


def test_data_nodes_are_data_producers():
    opened = assert_same_graph(LLGExpr({"a": DataNode("a", 1)}), ["a"])
    assert opened.flags["a"] == 1


def merged_by_stock(keys, common, by_type):
    """Scheduler._apply_annotations on stand-ins for tasks."""
    from types import SimpleNamespace

    from distributed.scheduler import Scheduler

    tasks = [SimpleNamespace(key=k, annotations=None) for k in keys]
    fake = SimpleNamespace(coerce_address=lambda a: a)
    Scheduler._apply_annotations(fake, tasks, by_type, common)  # type: ignore[arg-type]
    return {t.key: t.annotations for t in tasks if t.annotations}


def test_annotations():
    with dask.annotate(retries=3, workers=["tcp://a:1"]):
        a = da.ones(10, chunks=2) + 1
    with dask.annotate(priority=lambda key: len(str(key)), resources={"gpu": 1}):
        b = da.zeros(10, chunks=5)
    with dask.annotate(nothing=None):
        c = delayed(inc)(1)
    with dask.annotate(retries=3, executor="gpu", priority=lambda key: -len(key)):
        d = delayed(inc)(c)
    expr = compute_expression(a.sum(), b.sum(), d)
    common = {"retries": 7, "named": lambda key: f"n-{key}", "priority": 5}
    keys = flat_keys(expr)
    dsk, by_type = stock(expr, keys)
    opened = ours(expr, keys, common)
    expected = merged_by_stock(dsk, common, by_type)
    for values in expected.values():  # msgpack has no lists here, only tuples
        values.update({n: tuple(v) for n, v in values.items() if isinstance(v, list)})
    assert opened.annotations == expected
    assert {s["retries"] for s in opened.annotations.values()} == {3, 7}


def test_annotations_are_sent_once():
    expr = map_expression(operator.neg, range(5000))
    opened = ours(expr, list(expr.keys), {"workers": ["a"], "retries": 2})
    assert len(opened.reply["annotation_sets"]) == 1
    assert len(opened.annotations) == 5000
    assert ours(expr, list(expr.keys)).chunks[0]["annotation_of"] is None


def test_annotations_beyond_msgpack_travel_as_pickles():
    from distributed.protocol.serialize import Pickled

    opened = ours(LLGExpr({"x": Task("x", inc, 1)}), ["x"], {"odd": 1 + 2j, "executor": "gpu"})
    assert isinstance(opened.annotations["x"]["odd"], Pickled)
    assert opened.annotations["x"]["executor"] == "gpu"


def test_code_and_span_metadata():
    code = (SourceCode("x = 1", 2, 3, "file.py"),)
    opened = ours(LLGExpr({"x": Task("x", inc, 1)}), ["x"], None, code, {"collections": [{"type": "Future"}]})
    assert opened.reply["code"] == (("x = 1", 2, 3, "file.py"),)
    assert opened.reply["span_metadata"] == {"collections": ({"type": "Future"},)}


class Unopenable:
    def __dask_tokenize__(self):
        return "unopenable"

    def __reduce__(self):
        return (operator.getitem, ({}, "missing"))


def test_a_graph_that_cannot_be_opened():
    with pytest.raises(RuntimeError, match="Error during deserialization of the task graph") as info:
        ours(LLGExpr({"x": Task("x", inc, Unopenable())}), ["x"])
    assert isinstance(info.value.__cause__, KeyError)


def test_a_compressed_expression():
    from distributed.protocol.compression import maybe_compress
    from distributed.protocol.serialize import Serialized

    ser = serialized(LLGExpr({"x": Task("x", len, "a" * 100_000)}))
    pairs = [maybe_compress(f, compression="zlib") for f in ser.frames]
    header = {**ser.header, "compression": [c for c, _ in pairs]}
    assert header["compression"][0] == "zlib"
    opened = graph_open.open_expression(Serialized(header, [f for _, f in pairs]))
    assert execute(opened.__dask_graph__())["x"] == 100_000


# The library's own cull is quadratic here: this is what ours is for.
@pytest.mark.parametrize("cull_mode", ["linear cull"], indirect=True)
def test_delayed_graphs_cost_the_same_per_task(cull_mode):
    calls = 0
    original = graph_open.Layer.cull

    def counting(self, keys, all_keys):
        nonlocal calls
        calls += len(keys)
        return original(self, keys, all_keys)

    n = 400
    leaves = [delayed(inc)(i) for i in range(n)]
    expr = compute_expression(*[delayed(inc)(leaf) for leaf in leaves])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_open.Layer, "cull", counting)
        opened = ours(expr, flat_keys(expr))
    assert len(opened.keys) == 2 * n
    assert calls <= 4 * n


def test_map_over_futures_and_containers():
    args = [[1, 2], {"a": 1}, (3, 4), Alias("f", "f"), [TaskRef("g")], np.arange(3)]
    expr = map_expression(lambda x, y: (x, y), args, range(6))
    opened = assert_same_graph(expr, list(expr.keys), run=False)
    assert set(opened.reply["external"]) == {"f", "g"}
