"""Runs scripts in forks of a process that has imported distributed: importing it takes longer than most tests.

A JSON document a line on stdin, ``{"id", "script", "argv"}``; on stdout ``{"id", "code", "out", "err"}`` when the
script has ended. This process starts no thread, so that a fork is safe.
"""

import atexit
import ctypes
import json
import os
import select
import signal
import sys
import tempfile
import traceback
import types

import dask  # noqa: F401
import distributed  # noqa: F401

PR_SET_PDEATHSIG = 1
running = {}


def start(request):
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - until it has ended
    pid = os.fork()
    if pid:
        running[pid] = (request["id"], out, err)
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.argv = ["-c", *request["argv"]]
        # cloudpickle takes what is defined there by value
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(request["script"], "<script>", "exec"), main.__dict__)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap():
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        number, *files = running.pop(pid)
        texts = []
        for file in files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"id": number, "code": code, "out": texts[0], "err": texts[1]}), flush=True)


def serve():
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    buffer = b""
    while True:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            reap()
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                start(json.loads(line))


serve()
