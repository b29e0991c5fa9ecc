"""A stock distributed peer: ``stock_peer.py server|client <address> [<certificate folder>]``.

Prints one JSON object per line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from distributed.comm import connect, listen
from distributed.core import Server, rpc
from distributed.protocol import Serialize
from distributed.security import Security


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


def security(folder: str | None) -> Security | None:
    if folder is None:
        return None
    ca, pem = os.path.join(folder, "ca.pem"), os.path.join(folder, "peer.pem")
    return Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=pem,
        tls_scheduler_cert=pem,
        tls_worker_cert=pem,
    )


class EchoServer(Server):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            handlers={
                "fail": self.fail,
                "sleep": self.sleep,
                "count": self.count,
                "value": self.value,
            },
            **kwargs,
        )
        self.connections = 0

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def sleep(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    def count(self) -> int:
        return len(self._comms)

    def value(self) -> dict[str, Any]:
        return {"data": Serialize(b"x" * 10), "key": ("a", 1), "float": 1.0}


async def serve(address: str, folder: str | None) -> None:
    sec = security(folder)
    args = sec.get_connection_args("scheduler") if sec else {}
    async with EchoServer(connection_args=args) as server:
        listen_args = sec.get_listen_args("scheduler") if sec else {}
        await server.listen(address, **listen_args)
        say(address=server.address)
        await asyncio.Event().wait()


async def call(address: str, folder: str | None) -> None:
    sec = security(folder)
    args = sec.get_connection_args("client") if sec else {}
    comm = await connect(address, **args)
    say(
        local=list(comm.local_info["python"]),
        options=comm.handshake_options,
        remote={k: v for k, v in comm.remote_info.items() if k != "address"},
    )
    await comm.write({"op": "echo", "data": {("a", 1): [1, 1.0, b"x"]}, "reply": True})
    reply = await comm.read()
    say(echo=repr(reply))
    await comm.close()
    async with rpc(address, connection_args=args) as server:
        say(echo=repr(await server.echo(data=[1, "two", None])))
        for method, kwargs in [
            ("fail", {"text": "on purpose"}),
            ("nothing_of_that_name", {}),
            ("echo", {"data": 1, "more": 2}),
            ("blocked", {}),
        ]:
            try:
                result = await getattr(server, method)(**kwargs)
            except Exception as e:
                say(op=method, error=type(e).__name__, text=str(e))
            else:
                say(op=method, result=repr(result))
        data = b"0" * (64 * 2**20)
        back = await server.echo(data=data)
        say(big=back == data)
    say(done=True)


async def quiet_listen(address: str, folder: str | None) -> None:
    """A listener that never reads after the handshake, until it is told to."""
    loop = asyncio.get_running_loop()

    async def handle(comm: Any) -> None:
        say(connected=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        n = 0
        while True:
            try:
                msg = await comm.read()
            except OSError:
                break
            n += len(msg)
            if n == 32:
                say(read=n)

    async with listen(address, handle) as listener:
        say(address=listener.contact_address)
        await asyncio.Event().wait()


if __name__ == "__main__":
    mode, address = sys.argv[1:3]
    folder = sys.argv[3] if len(sys.argv) > 3 else None
    run = {"server": serve, "client": call, "quiet": quiet_listen}[mode]
    asyncio.run(run(address, folder))
