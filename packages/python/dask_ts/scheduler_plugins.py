"""Scheduler plugins that only act when they are registered (``upload_file``), run beside the scheduler."""

from __future__ import annotations

import inspect
import os
import tempfile
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin, _get_plugin_name
from distributed.protocol import pickle
from distributed.utils import import_file

#: Hooks that a plugin would get from inside the scheduler; one that has any of them cannot run here.
HOOKS = (
    "update_graph",
    "restart",
    "transition",
    "add_worker",
    "remove_worker",
    "add_client",
    "remove_client",
    "valid_workers_downscaling",
    "log_event",
)

#: Name of each plugin that was registered here.
_registered: dict[str, SchedulerPlugin] = {}
_directory: list[str] = []


async def register_plugin(data: bytes, name: str | None, idempotent: bool, dask_scheduler: Any = None) -> str:
    """Scheduler.register_scheduler_plugin for a plugin without hooks. Returns its name."""
    plugin = pickle.loads(data)
    if not isinstance(plugin, SchedulerPlugin):
        raise TypeError(f"a SchedulerPlugin was expected, not {type(plugin).__name__}")
    name = name or _get_plugin_name(plugin)
    if name in _registered and idempotent:
        return name
    base = SchedulerPlugin
    hooks = [hook for hook in HOOKS if getattr(type(plugin), hook) is not getattr(base, hook)]
    if hooks:
        raise NotImplementedError(
            f"scheduler plugin {name!r} needs {', '.join(hooks)}: scheduler plugins run beside the "
            "scheduler, where they see no events"
        )
    dask_scheduler.upload_file = _upload_file
    result = plugin.start(dask_scheduler)
    if inspect.isawaitable(result):
        await result
    _registered[name] = plugin
    return name


async def unregister_plugin(name: str) -> None:
    """Scheduler.unregister_scheduler_plugin."""
    plugin = _registered.pop(name, None)
    if plugin is None:
        raise ValueError(f"Could not find plugin {name!r} among the current scheduler plugins")
    result = plugin.close()
    if inspect.isawaitable(result):
        await result


async def _upload_file(filename: str, data: str | bytes, load: bool = True) -> dict[str, Any]:
    """Server.upload_file, into a folder of this process."""
    if not _directory:
        _directory.append(tempfile.mkdtemp(prefix="dask-ts-graph-host-"))
    path = os.path.join(_directory[0], os.path.basename(filename))
    content = data.encode() if isinstance(data, str) else data
    with open(path, "wb") as f:
        f.write(content)
    if load:
        import_file(path)
    return {"status": "OK", "nbytes": len(content)}
