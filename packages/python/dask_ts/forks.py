"""Tasks that fork: the child is a copy of the executor that holds its bridge and one thread of it.

Were it to go on, it would tell the worker the outcome of the same task a second time, in the middle of its parent's
messages, and then wait for tasks that never come. So it loses the bridge at once, and ends where its task does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

from dask_ts.bridge import Bridge

_is_child = False


def guard_forks(bridge: Bridge) -> None:
    """From now on copies of this process have no bridge."""

    def in_child() -> None:
        global _is_child
        _is_child = True
        # another thread may have held it when this one forked
        bridge._lock = threading.RLock()
        bridge.closed = True
        with contextlib.suppress(OSError):
            bridge._sock.close()

    os.register_at_fork(after_in_child=in_child)


def end_if_child(failed: bool = False) -> None:
    """Ends this process where it is a copy whose task has returned."""
    if _is_child:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(1 if failed else 0)
