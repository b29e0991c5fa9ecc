"""What dead stock workers left in the scratch space: a directory is theirs by an ``flock``, which Node lacks."""

from __future__ import annotations

import logging
import os
import threading

from distributed.diskutils import WorkSpace

logger = logging.getLogger("distributed.worker")


def purge_stock_leftovers(local_directory: str) -> threading.Thread | None:
    """Removes, in a thread, those directories beside a worker's own whose lock file nobody holds.

    Those of the workers of this package have none. Nothing is done outside of a scratch space.
    """
    space = os.path.dirname(os.path.abspath(local_directory))
    if not os.path.basename(space).startswith("dask-scratch-space"):
        return None
    thread = threading.Thread(target=_purge, args=(space,), name="dask-ts-purge", daemon=True)
    thread.start()
    return thread


def _purge(space: str) -> None:
    try:
        if any(name.endswith(".dirlock") for name in os.listdir(space)):
            WorkSpace(space)._purge_leftovers()
    except Exception:
        logger.warning("Could not look for leftovers of other workers in %s", space, exc_info=True)
