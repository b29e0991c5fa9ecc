"""The graphs of the benchmark, each a function that submits it through a stock client and waits for its result.

merge-N    N delayed calls and one that takes them all
tree-D     binary tree of 2^D - 1 delayed calls
chains-N   N chains of ten calls each, as a low-level graph
map-N      client.map over N numbers
array-N    (da.ones(N, chunks=...) + 1).sum() of about N tasks
shuffle-P  a dataframe shuffle of P partitions by the `tasks` method
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import dask
from distributed import Client, wait

CHAIN = 10


def merge(client: Client, n: int) -> int:
    neg = dask.delayed(operator.neg, pure=False)
    total = dask.delayed(sum, pure=False)([neg(i) for i in range(n)])
    wait(client.compute(total))
    return n + 1


def tree(client: Client, depth: int) -> int:
    add = dask.delayed(operator.add, pure=False)
    level = [add(i, i) for i in range(2 ** (depth - 1))]
    count = len(level)
    while len(level) > 1:
        level = [add(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        count += len(level)
    wait(client.compute(level[0]))
    return count


def chains(client: Client, n: int) -> int:
    import uuid

    run = uuid.uuid4().hex[:8]
    graph: dict = {}
    for i in range(n):
        graph[f"chain-{run}-{i}-0"] = (operator.neg, i)
        for j in range(1, CHAIN):
            graph[f"chain-{run}-{i}-{j}"] = (operator.neg, f"chain-{run}-{i}-{j - 1}")
    ends = [f"chain-{run}-{i}-{CHAIN - 1}" for i in range(n)]
    wait(client.get(graph, ends, sync=False))
    return n * CHAIN


def map_(client: Client, n: int) -> int:
    wait(client.map(operator.neg, range(n), pure=False))
    return n


def array(client: Client, n: int) -> int:
    import dask.array as da

    total = (da.ones(n * 10, chunks=15) + 1).sum()
    count = len(dict(total.__dask_optimize__(total.__dask_graph__(), total.__dask_keys__())))
    wait(client.compute(total))
    return count


def shuffle(client: Client, partitions: int) -> int:
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame({"x": range(partitions * 4), "y": 1})
    shuffled = dd.from_pandas(frame, npartitions=partitions).shuffle("x", shuffle_method="tasks")
    # Zero workers give no dataframe: the tasks are run, the result is not looked at.
    persisted = shuffled.persist()
    wait(persisted)
    return len(dict(shuffled.optimize().__dask_graph__()))


GRAPHS: dict[str, Callable[[Client, int], int]] = {
    "merge": merge,
    "tree": tree,
    "chains": chains,
    "map": map_,
    "array": array,
    "shuffle": shuffle,
}


def run(client: Client, name: str) -> int:
    """Runs `map-10000` and the like; returns the number of tasks."""
    kind, size = name.rsplit("-", 1)
    return GRAPHS[kind](client, int(size))
