# Settings of the notebook image; Jupyter gives `c`.
import re

import dask.config

# The dashboard's link leads through Jupyter to the scheduler, and to no other host.
address = str(dask.config.get("scheduler-address", None) or "")
host = re.sub(r"^\w+://", "", address).rpartition(":")[0]
c.ServerProxy.host_allowlist = ["localhost", "127.0.0.1", *([host] if host else [])]  # noqa: F821
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash"]}  # noqa: F821
