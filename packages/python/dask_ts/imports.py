"""Tasks of several threads that import the same packages at the same time.

While one thread imports ``dask.array``, another may import ``dask.array.core``: Python does not wait for the package
when it is in ``sys.modules`` already. The second thread then uses functions of the module before
``dask.array.backends`` has filled the tables that they look into: ``No dispatch for <class 'numpy.ndarray'>``. A worker
whose first tasks are those of a P2P rechunk meets this (``distributed.shuffle._rechunk`` imports in its functions).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from dask.utils import Dispatch

#: Their modules fill dispatch tables while they are imported.
PACKAGES = ("dask.array", "dask.dataframe")


def patience_with_imports() -> None:
    """From now on a dispatch that finds nothing waits for the imports that are under way, and looks again."""
    lookup = Dispatch.dispatch

    def dispatch(self: Dispatch, cls: type) -> Any:
        try:
            return lookup(self, cls)
        except TypeError:
            wait_for_imports()
            return lookup(self, cls)

    Dispatch.dispatch = dispatch  # type: ignore[method-assign]


def wait_for_imports() -> None:
    """Returns when no other thread is importing one of the packages. A thread that imports one itself does not wait."""
    for name in PACKAGES:
        if name in sys.modules:
            importlib.import_module(name)
