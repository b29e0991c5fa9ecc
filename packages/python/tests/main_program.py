"""Plays the client: pickles tasks whose functions and classes live in ``__main__``."""

import functools
import operator
import pickle as std_pickle
import sys

import cloudpickle
import numpy as np
from dask._task_spec import Alias, DataNode, Dict, List, Task, TaskRef
from dask._task_spec import _execute_subgraph as execute_subgraph

OFFSET = 10
COUNTER = [0]


def with_globals(x):
    return x + OFFSET


def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n):
    return True if n == 0 else is_odd(n - 1)


def is_odd(n):
    return False if n == 0 else is_even(n - 1)


class Point:
    made = 0

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

    def __hash__(self):
        return hash(self.x)

    def __repr__(self):
        return f"{type(self).__name__}({self.x})"

    def add(self, y):
        return self.x + y

    @classmethod
    def origin(cls, x):
        return cls(x).x

    @staticmethod
    def double(x):
        return 2 * x


class Derived(Point):
    def add(self, y):
        return super().add(y) + 1


def bump(_):
    global OFFSET
    OFFSET += 1
    return OFFSET


def read(_):
    return OFFSET


def both(f, g, x):
    f(x)
    return g(x)


def closure(n):
    def inner(x):
        return x + n

    return inner


def decorated(f):
    @functools.wraps(f)
    def wrapper(x):
        return f(x) * 2

    return wrapper


@decorated
def wrapped(x):
    return x + 1


BIG = np.arange(100_000)
inner = {"a": Task("a", with_globals, TaskRef("k")), "b": Task("b", operator.neg, TaskRef("a"))}

CASES = {
    "lambda": Task("t", lambda x: x + 1, 1),
    "importable": Task("t", operator.neg, 1),
    "globals": Task("t", with_globals, 1),
    "recursive": Task("t", factorial, 5),
    "mutually recursive": Task("t", is_even, 10),
    "closure": Task("t", closure(5), 1),
    "decorated": Task("t", wrapped, 1),
    "partial": Task("t", functools.partial(with_globals, x=3)),
    "numpy": Task("t", np.sum, np.arange(1000)),
    "large numpy": Task("t", lambda a: int(a.sum()), BIG),
    "non-contiguous numpy": Task("t", np.sum, BIG[::2]),
    "closure over numpy": Task("t", lambda: int(BIG.sum())),
    "alias": Task("t", operator.add, Alias("k", "k"), 1),
    "ref in containers": Task("t", lambda a: a[0]["x"], List(Dict({"x": TaskRef("k")}))),
    "data node": DataNode("t", {"a": Point(1)}),
    "plain data node": DataNode("t", [1, 2]),
    "class": Task("t", Point, 3),
    "class and instance": Task("t", lambda p, c: isinstance(p, c), Point(1), Point),
    "derived": Task("t", Derived(1).add, 2),
    "bound method": Task("t", Point(1).add, 2),
    "class method": Task("t", Point.origin, 2),
    "static method": Task("t", Point.double, 2),
    "fused": Task("t", execute_subgraph, inner, "b", ("k",), TaskRef("k")),
    "shared globals": Task("t", both, bump, read, 1),
    "module": Task("t", lambda m: m.__name__, operator),
    "type argument": Task("t", lambda t: t.__name__, type(None)),
    "the word __main__": Task("t", len, "__main__"),
    "keyword": Task("t", lambda *, a, b: a - b, a=5, b=3),
}

out = {}
for name, node in CASES.items():
    blob = cloudpickle.dumps(node)
    value = node({"k": 7})
    out[name] = (blob, repr(value))
sys.stdout.buffer.write(std_pickle.dumps(out))
