"""What the functions of distributed's progress bars are about, for a scheduler that cannot run them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dask.utils import key_split
from distributed.protocol import pickle

MODULE = "distributed.diagnostics.progressbar"


def classify_feed(setup: bytes) -> dict[str, Any] | None:
    """``keys``, ``complete`` and ``group_by`` of a progress bar's ``setup``; None where it is none.

    ``group_by`` is None for one bar, ``"prefix"`` or ``"spans"``, or ``"function"``: then ask
    :func:`group_keys`.
    """
    cells = _closure(setup)
    if cells is None or "keys" not in cells:
        return None
    group_by = None
    if "group_by" in cells:
        group_by = cells["group_by"]
        if group_by in (None, key_split):
            group_by = "prefix"
        elif not isinstance(group_by, str):
            group_by = "function"
    return {
        "keys": list(cells["keys"]),
        "complete": bool(cells.get("complete")),
        "group_by": group_by,
    }


def group_keys(setup: bytes, keys: Iterable[Any]) -> list[Any]:
    """The group of each key, by the function that the progress bar was given."""
    cells = _closure(setup) or {}
    group_by: Callable[[Any], Any] = cells["group_by"]
    return [group_by(key) for key in keys]


def _closure(setup: bytes) -> dict[str, Any] | None:
    function = pickle.loads(setup)
    if getattr(function, "__module__", None) != MODULE:
        return None
    names = function.__code__.co_freevars
    return {name: cell.cell_contents for name, cell in zip(names, function.__closure__ or (), strict=True)}
