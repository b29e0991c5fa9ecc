"""`python -m distributed.cli.dask_scheduler` and the like start dask-ts where this module is installed.

Deployers start clusters by the names of stock's modules. `dask_ts_redirect.pth` beside this file imports it at the
start of every interpreter of the environment; only where the interpreter was asked to run one of these modules as a
program (`-m`), the process becomes the command of dask-ts. `import distributed` is not touched, nor are `LocalCluster`,
`python -c` or scripts. DASK_TS_REDIRECT=0 turns it off.
"""

import os
import sys

COMMAND = "/opt/dask-ts/roles/dask"
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


def redirect() -> None:
    if os.environ.get("DASK_TS_REDIRECT", "1").lower() in ("0", "false", "no", "off"):
        return
    arguments = replacement(getattr(sys, "argv", []), getattr(sys, "orig_argv", []))
    if arguments is None or not os.access(COMMAND, os.X_OK):
        return
    # Tasks run in the interpreter that was asked for.
    os.environ.setdefault("DASK_TS_PYTHON", sys.executable)
    os.execv(COMMAND, [COMMAND, *arguments])


redirect()
