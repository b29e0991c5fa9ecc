"""A child for the tests and the benchmark of the bridge."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

from dask_ts.bridge import Bridge


def main() -> None:
    mode = sys.argv[1] if len(sys.argv) > 1 else "loop"

    def on_message(message: dict) -> None:
        op = message["op"]
        number = message.get("id")
        if op == "echo":
            bridge.reply(number, value=message["value"])
        elif op == "tasks":
            bridge.reply(number, n=len(message["value"]))
        elif op == "task":
            bridge.send({"op": "done", "key": message["key"], "start": time.time()})
        elif op == "chunks":
            for i in range(message["n"]):
                bridge.send({"op": "chunk", "id": number, "i": i})
            bridge.reply(number, n=message["n"])
        elif op == "fail":
            try:
                raise ValueError("as asked")
            except ValueError as exc:
                bridge.reply_error(number, exc)
        elif op == "environ":
            bridge.reply(number, value=[os.environ.get(name) for name in message["names"]])
        elif op == "exit":
            os._exit(message["code"])
        elif op == "leave":
            # its own child inherits its output
            subprocess.Popen(["sleep", "60"])
            print("last words", flush=True)
            os._exit(message["code"])
        elif op == "print":
            print("to stdout")
            print("to stderr", file=sys.stderr)
            bridge.reply(number)
        elif op == "ask":

            def ask() -> None:
                answer = bridge.request_sync("question", 10, x=message["x"])
                bridge.reply(number, answer=answer["y"])

            threading.Thread(target=ask).start()
        elif op == "threads":
            n = message["n"]
            threads = [
                threading.Thread(target=lambda i=i: bridge.send({"op": "done", "key": f"t-{i}", "pad": b"x" * 100_000}))
                for i in range(n)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            bridge.reply(number)
        elif op == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif op == "hang":
            while True:
                time.sleep(1)

    if mode == "broken":
        raise RuntimeError("this child does not start")
    if mode == "thread":
        bridge = Bridge.from_parent(on_message)
        bridge.ready(mode=mode)
        bridge.run()
        return

    async def serve() -> None:
        bridge.attach(asyncio.get_running_loop())
        bridge.ready(mode=mode)
        await closed.wait()

    closed = asyncio.Event()
    bridge = Bridge.from_parent(on_message, closed.set)
    asyncio.run(serve())


if __name__ == "__main__":
    main()
