"""``python -m dask_ts.fork_server MODULE``: imports ``MODULE`` once, then forks children that run its ``main``.

N executors of one command then cost one import of distributed instead of N, and share its memory.
The server itself never starts a thread, so that a fork is safe. Its parent talks with it over file
descriptor 3, a JSON document a line:

* to the server: ``{"fork": id, "socket": path, "env": {name: value or null}, "cwd": path or null}``;
* from the server: ``{"ready": true}``, ``{"forked": id, "pid": int}``, ``{"exited": id, "code", "signal"}``.

A child connects to ``socket`` once for its bridge and once for each of stdout and stderr, and says
which it is with a head of :data:`HEAD_BYTES` bytes. It is the server's child, so its end is told by
the server; where the server ends, the kernel ends the children too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from dask_ts.bridge import BRIDGE_FD, end_with_parent
from dask_ts.lent_sockets import PASSED_FD, LentReader, take_channel

HEAD_BYTES = 24
#: Where a child's connections go.
ROLES = {"stdout": 1, "stderr": 2, "bridge": BRIDGE_FD}


def connect(path: str, number: int) -> None:
    """Puts this process's bridge, stdout and stderr onto connections to ``path``."""
    for role, fd in ROLES.items():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(path)
        sock.sendall(f"{number} {role}".ljust(HEAD_BYTES).encode())
        os.dup2(sock.fileno(), fd)
        sock.close()


class ForkServer:
    def __init__(self, module: str, control: socket.socket) -> None:
        self.module = module
        self.control = control
        self.children: dict[int, int] = {}
        #: By the number of the child: where sockets go that are lent to it.
        self.channels: dict[int, socket.socket] = {}
        taken = take_channel()
        self.lent = None if taken is None else LentReader(*taken, self.pass_on)
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)

    def send(self, message: dict[str, Any]) -> None:
        self.control.sendall(json.dumps(message).encode() + b"\n")

    def serve(self) -> int:
        """Forks and reaps until the parent is gone. In a child: returns the result of the module's ``main``."""
        main = importlib.import_module(self.module).main
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        # what is imported is never garbage: without this a collection would touch, and so copy, every page of it
        gc.collect()
        gc.freeze()
        self.send({"ready": True})
        buffer = b""
        sources: list[Any] = [self.control, self.wake_read]
        if self.lent is not None:
            sources.append(self.lent.channel)
        while True:
            readable, _, _ = select.select(sources, [], [])
            if self.wake_read in readable:
                os.read(self.wake_read, 4096)
                self.reap()
            if self.lent is not None and self.lent.channel in readable and not self.lent.read():
                sources.remove(self.lent.channel)
            if self.control in readable:
                data = self.control.recv(65536)
                if not data:
                    return 0
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    request = json.loads(line)
                    if self.fork(request):
                        main()
                        return 0

    def fork(self, request: dict[str, Any]) -> bool:
        """True in the child."""
        sys.stdout.flush()
        sys.stderr.flush()
        server = os.getpid()
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid:
            theirs.close()
            ours.setblocking(False)
            self.channels[request["fork"]] = ours
            self.children[pid] = request["fork"]
            self.send({"forked": request["fork"], "pid": pid})
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.wake_read)
        os.close(self.wake_write)
        for channel in (ours, *self.channels.values(), *([self.lent.channel] if self.lent else [])):
            channel.close()
        self.control.detach()  # connect() puts the bridge in its place
        connect(request["socket"], request["fork"])
        for name, value in request["env"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        os.environ["DASK_TS_PARENT_PID"] = str(server)
        os.environ[PASSED_FD] = str(theirs.detach())
        if request["cwd"] is not None:
            os.chdir(request["cwd"])
        return True

    def pass_on(self, message: dict[str, Any], fd: int) -> None:
        """A socket that is lent to a child goes to it; one that it does not take is not waited for."""
        channel = self.channels.get(message.get("child", -1))
        line = json.dumps({"cmd": "NODE_HANDLE", "msg": message}).encode() + b"\n"
        try:
            if channel is not None:
                socket.send_fds(channel, [line], [fd])
        except OSError:
            pass
        finally:
            os.close(fd)

    def reap(self) -> None:
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self.children.pop(pid, None)
            if number is None:
                continue
            self.channels.pop(number).close()
            signalled = os.WIFSIGNALED(status)
            self.send(
                {
                    "exited": number,
                    "code": None if signalled else os.WEXITSTATUS(status),
                    "signal": signal.Signals(os.WTERMSIG(status)).name if signalled else None,
                }
            )


def main() -> None:
    end_with_parent()
    control = socket.socket(fileno=BRIDGE_FD)
    try:
        code = ForkServer(sys.argv[1], control).serve()
    except OSError:
        code = 0  # the parent is gone
    os._exit(code)


if __name__ == "__main__":
    main()
