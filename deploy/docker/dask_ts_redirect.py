"""`python -m distributed.cli.dask_scheduler` and the like start dask-ts where this module is installed.

Deployers start clusters by the names of stock's modules. `dask_ts_redirect.pth` beside this file imports it at the
start of every interpreter of the environment; only where the interpreter was asked to run one of these modules as a
program (`-m`), the process becomes the command of dask-ts. `import distributed` is not touched, nor are `LocalCluster`,
`python -c` or scripts. DASK_TS_REDIRECT=0 turns it off. `dask-ts deploy redirect` installs it outside of the image.
"""

import os
import sys

#: The command of dask-ts as the image has it; elsewhere the file beside this one has it, an argument in each line.
COMMAND = "/opt/dask-ts/roles/dask"
COMMAND_FILE = f"{__file__}.command"
ROLES = ("scheduler", "worker", "spec", "ssh")
#: Sub-commands of `python -m dask`; stock keeps the others.
DASK_ROLES = (*ROLES, "config")


def replacement(argv: list[str], orig_argv: list[str]) -> list[str] | None:
    """The arguments of dask-ts for this command line of Python, if it is one of those.

    While `.pth` files are read, `sys.argv` is `["-m", *arguments]`; only `sys.orig_argv` has the module's name.
    """
    if argv[:1] != ["-m"] or len(orig_argv) <= len(argv):
        return None
    arguments = argv[1:]
    module = orig_argv[len(orig_argv) - len(arguments) - 1]
    if module.startswith("-"):  # -mdistributed.cli.dask_worker
        module = module.partition("m")[2]
    package, _, role = module.rpartition("dask_")
    if package == "distributed.cli." and role in ROLES:
        return [role, *arguments]
    if module == "dask" and arguments[:1] and arguments[0] in DASK_ROLES:
        return arguments
    return None


def command() -> list[str]:
    """What starts dask-ts here; nothing where it is gone."""
    found = [COMMAND]
    if os.path.exists(COMMAND_FILE):
        with open(COMMAND_FILE, encoding="utf-8") as file:
            found = file.read().splitlines()
    return found if all(os.path.exists(one) for one in found) else []


def redirect() -> None:
    if os.environ.get("DASK_TS_REDIRECT", "1").lower() in ("0", "false", "no", "off"):
        return
    arguments = replacement(getattr(sys, "argv", []), getattr(sys, "orig_argv", []))
    start = [] if arguments is None else command()
    if arguments is None or not start:
        return
    # Tasks run in the interpreter that was asked for.
    os.environ.setdefault("DASK_TS_PYTHON", sys.executable)
    os.execv(start[0], [*start, *arguments])


redirect()
