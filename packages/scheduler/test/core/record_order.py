"""Record how much `dask.order.order` holds in memory at once, for many graphs.

    python record_order.py OUT.json

Every graph is a list with the dependencies of each task, and the pressure of the original's order: the largest number
of results held at any time, and the sum over time, when tasks run one after the other and a result is dropped as soon
as all of its dependents have run.
"""

from __future__ import annotations

import json
import random
import sys
import warnings

import dask
import dask.array as da
from dask._task_spec import Task
from dask.order import order

warnings.simplefilter("ignore")


def noop(*args):
    return None


def from_deps(deps: list[list[int]]) -> dict:
    from dask._task_spec import TaskRef

    return {f"t{i:06}": Task(f"t{i:06}", noop, *[TaskRef(f"t{d:06}") for d in ds]) for i, ds in enumerate(deps)}


def from_collections(*collections) -> dict:
    from dask._task_spec import convert_legacy_graph

    (optimized,) = [dask.optimize(*collections)]
    dsk: dict = {}
    for c in optimized:
        dsk.update(c.__dask_graph__())
    return convert_legacy_graph(dsk)


def pressure(deps: list[list[int]], ranks: list[int]) -> tuple[int, int]:
    left = [0] * len(deps)
    for ds in deps:
        for d in ds:
            left[d] += 1
    live = most = total = 0
    for i in sorted(range(len(deps)), key=ranks.__getitem__):
        live += 1
        most = max(most, live)
        if left[i] == 0:
            live -= 1
        for d in deps[i]:
            left[d] -= 1
            if left[d] == 0:
                live -= 1
        total += live
    return most, total


def graphs():
    x = da.ones((40, 40), chunks=(5, 5))
    y = da.ones((40, 40), chunks=(5, 5)) * 2
    yield "sum", from_collections(x.sum())
    yield "mean by axis", from_collections((x + y).mean(axis=0))
    yield "std", from_collections(x.std())
    yield "anomaly", from_collections(x - x.mean(axis=0))
    yield "anomaly stored", from_collections((x - x.mean(axis=0)).std(axis=1))
    yield "tensordot", from_collections(da.tensordot(x, y, axes=1))
    yield "matmul chain", from_collections((x @ y @ x).sum())
    yield "transpose sum", from_collections((x + x.T).sum(axis=0))
    yield "transpose", from_collections(x + x.T)
    yield "rechunk", from_collections(x.rechunk((40, 5)).rechunk((5, 40)))
    yield "overlap", from_collections(da.map_overlap(noop, x, depth=1, boundary="none", dtype=float))
    yield "overlap sum", from_collections(da.map_overlap(noop, x, depth=1, boundary="none", dtype=float).sum())
    yield "cumsum", from_collections(x.cumsum(axis=0))
    yield "svd", from_collections(*da.linalg.svd(da.ones((80, 5), chunks=(5, 5))))
    yield "qr", from_collections(*da.linalg.qr(da.ones((80, 5), chunks=(5, 5))))
    z = da.ones((40, 20, 20), chunks=(4, 10, 10))
    yield "climatology", from_collections((z[::2] - z[1::2]).mean(axis=0), (z * 2).std(axis=0))
    u, v = da.ones((30, 20, 20), chunks=(3, 10, 10)), da.zeros((30, 20, 20), chunks=(3, 10, 10))
    yield "vorticity", from_collections((u**2).mean(axis=0), (v**2).mean(axis=0), (u * v).mean(axis=0))
    yield "histogram", from_collections(da.histogram(x, bins=10, range=(0, 1))[0])
    yield "two outputs", from_collections(x.sum(axis=0), x.max(axis=1))
    yield "percentiles", from_collections(da.percentile(x.reshape(-1), [10, 50]))

    def tree(n: int, fan: int) -> list[list[int]]:
        deps: list[list[int]] = [[] for _ in range(n)]
        level = list(range(n))
        while len(level) > 1:
            nxt = []
            for i in range(0, len(level), fan):
                nxt.append(len(deps))
                deps.append(level[i : i + fan])
            level = nxt
        return deps

    def shuffle(n: int, m: int, after: int = 0) -> list[list[int]]:
        deps: list[list[int]] = [[] for _ in range(n)]
        parts = {}
        for i in range(n):
            for j in range(m):
                parts[i, j] = len(deps)
                deps.append([i])
        for j in range(m):
            last = len(deps)
            deps.append([parts[i, j] for i in range(n)])
            for _ in range(after):
                deps.append([last])
                last += 1
        return deps

    def stencil(width: int, steps: int) -> list[list[int]]:
        deps: list[list[int]] = [[] for _ in range(width)]
        for s in range(1, steps):
            for i in range(width):
                deps.append([(s - 1) * width + j for j in (i - 1, i, i + 1) if 0 <= j < width])
        return deps

    yield "binary tree", from_deps(tree(64, 2))
    yield "wide tree", from_deps(tree(200, 8))
    yield "shuffle", from_deps(shuffle(12, 12))
    yield "shuffle and more", from_deps(shuffle(8, 20, 2))
    yield "stencil", from_deps(stencil(12, 10))
    yield "narrow stencil", from_deps(stencil(40, 4))
    yield "chains", from_deps([[] if i % 7 == 0 else [i - 1] for i in range(140)])
    yield "broadcast", from_deps([[]] + [[0] for _ in range(20)] + [[0, i] for i in range(1, 21)])
    yield (
        "diamonds",
        from_deps([d for i in range(0, 80, 4) for d in ([[i - 1] if i else [], [i], [i], [i + 1, i + 2]])]),
    )
    for seed in range(25):
        rng = random.Random(seed)
        n = rng.randint(30, 150)
        reach = rng.choice([3, 8, 30, n])
        most = rng.choice([1, 2, 3])
        yield (
            f"random {seed}",
            from_deps([rng.sample(range(max(0, i - reach), i), min(i, reach, rng.randint(0, most))) for i in range(n)]),
        )
    for seed in range(15):
        rng = random.Random(100 + seed)
        layers, width = rng.randint(2, 6), rng.randint(4, 25)
        deps: list[list[int]] = []
        before: list[int] = []
        for _ in range(layers):
            here = []
            size = max(1, int(width * rng.choice([0.3, 1, 1, 2])))
            for i in range(size):
                here.append(len(deps))
                at = i * len(before) // size
                deps.append(sorted(set(before[max(0, at - 1) : at + rng.randint(1, 3)])))
            before = here
        yield f"layers {seed}", from_deps(deps)


def main() -> None:
    out = []
    for name, dsk in graphs():
        keys = sorted(dsk, key=str)
        number = {k: i for i, k in enumerate(keys)}
        deps = [sorted(number[d] for d in dsk[k].dependencies if d in number) for k in keys]
        ranks = order(dict(dsk))
        most, total = pressure(deps, [ranks[k] for k in keys])
        out.append({"name": name, "dependencies": deps, "most": most, "total": total})
    with open(sys.argv[1], "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")
    print(len(out), "graphs", sum(len(g["dependencies"]) for g in out), "tasks")


if __name__ == "__main__":
    main()
