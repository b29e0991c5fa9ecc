"""The handlers of a stock scheduler, worker and nanny with their parameters, as JSON."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Nanny, Scheduler, Worker


def parameters(handler: Callable) -> dict[str, Any]:
    required, optional, further = [], [], False
    for name, parameter in inspect.signature(handler).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            further = True
        elif name == "comm":
            continue
        elif parameter.default is parameter.empty:
            required.append(name)
        else:
            optional.append(name)
    return {"required": required, "optional": optional, "further": further}


def table(handlers: Mapping[str, Callable]) -> dict[str, Any]:
    return {op: parameters(handler) for op, handler in handlers.items()}


async def main() -> None:
    async with (
        Scheduler(dashboard_address=":0", port=0) as scheduler,
        Worker(scheduler.address) as worker,
    ):
        nanny = Nanny(scheduler.address)
        tables = {
            "scheduler": table(scheduler.handlers),
            "toScheduler": table(scheduler.stream_handlers),
            "worker": table(worker.handlers),
            "toWorker": table(worker.stream_handlers),
            "nanny": table(nanny.handlers),
        }
        print(json.dumps(tables), flush=True)


asyncio.run(main())
