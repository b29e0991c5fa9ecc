"""What a message costs that goes through a Node process to a Python process and back, and is never looked at.

    relay.py [--messages 3000] [--pause 0.002]

The floor of `execution.py --windows 1`: the same wake-ups and system calls, and nothing else. µs of CPU a message.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time

ECHO = """
import socket
sock = socket.socket(fileno=3)
while data := sock.recv(65536):
    sock.sendall(data)
"""
RELAY = """
const child = require("node:child_process").spawn(process.argv[1], ["-c", process.argv[2]],
  { stdio: ["ignore", "inherit", "inherit", "pipe"] });
let client;
child.stdio[3].on("data", (data) => client.write(data));
require("node:net").createServer({ noDelay: true }, (socket) => {
  client = socket;
  socket.on("data", (data) => child.stdio[3].write(data));
  socket.on("close", () => process.exit());
}).listen(0, "127.0.0.1", function () { console.log(this.address().port, process.pid, child.pid); });
"""


def cpu(pid: int) -> float:
    """The process's own CPU clock; see `bench.cpu_seconds`."""
    return time.clock_gettime(~pid << 3 | 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--pause", type=float, default=0.002)
    args = parser.parse_args()
    with subprocess.Popen(["node", "-e", RELAY, sys.executable, ECHO], stdout=subprocess.PIPE) as relay:
        assert relay.stdout is not None
        port, *pids = map(int, relay.stdout.readline().split())
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            print("| messages/s | µs Node | µs Python |")
            print("| --- | --- | --- |")
            for _ in range(3):
                before = [cpu(pid) for pid in pids]
                start = time.perf_counter()
                for _ in range(args.messages):
                    sock.sendall(b"x" * 400)
                    sock.recv(65536)
                    time.sleep(args.pause)
                rate = args.messages / (time.perf_counter() - start)
                node, python = ((cpu(pid) - was) / args.messages * 1e6 for pid, was in zip(pids, before, strict=True))
                print(f"| {rate:,.0f} | {node:.0f} | {python:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
