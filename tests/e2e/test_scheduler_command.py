"""The scheduler's command, from its start to its end."""

from __future__ import annotations

import subprocess

from cluster import COMMANDS, DEFAULT


def test_a_signal_right_after_the_address_is_an_orderly_end():
    flags = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    command = [*COMMANDS[DEFAULT]["scheduler"], *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as scheduler:
        next(line for line in scheduler.stderr if "Scheduler at:" in line)
        scheduler.terminate()
        _, rest = scheduler.communicate(timeout=30)
    assert scheduler.returncode == 0, rest
    assert "End scheduler" in rest or "Stopped scheduler" in rest, rest
