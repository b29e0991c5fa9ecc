"""What generated graphs use by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


def inc(x: Any = 0, *args: Any, **kwargs: Any) -> Any:
    return x + 1


def total(*args: Any, **kwargs: Any) -> Any:
    return len(args), sorted(kwargs)


class Holder:
    def __init__(self, value: Any = None, *args: Any, **kwargs: Any) -> None:
        self.value = value

    def method(self, *args: Any, **kwargs: Any) -> Any:
        return self.value, len(args)


@dataclass
class Record:
    a: Any
    b: Any


class Point(NamedTuple):
    x: Any
    y: Any
