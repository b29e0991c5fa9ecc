"""What the tasks of test_p2p.py run, in a module that workers import quickly."""

from __future__ import annotations

import time
from functools import cache

import pandas as pd

PARTS = 8


@cache
def table(file: str) -> pd.DataFrame:
    return pd.read_parquet(file)


def part(number: int, file: str, delay: float = 0) -> pd.DataFrame:
    """An eighth of the table; numbers from 8 on are further copies."""
    time.sleep(delay)
    rows = table(file)
    size = -(-len(rows) // PARTS)
    start = number % PARTS * size
    return rows.iloc[start : start + size].assign(copy=number // PARTS)


def edges(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"low": [rows.index.min()], "high": [rows.index.max()], "size": [len(rows)]})


def slowly(block):
    time.sleep(0.3)
    return block


def import_arrays() -> None:
    import dask.array  # noqa: F401
