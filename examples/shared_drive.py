# %% [markdown]
# # Files on a shared drive
#
# A file system that notebook, scheduler and workers mount at the same path (EFS in
# `deploy/cloudformation/ec2-efs.yaml`, NFS on machines of one's own): a file that one of them writes, all of them read.
# `SHARED` is the path.

# %%
import os
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client

client = Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
shared = Path(os.environ.get("SHARED", "/shared")) / "example"
print(client)

# %% [markdown]
# ## Is it the same drive everywhere?
#
# This side writes; every worker says what it reads.

# %%
shared.mkdir(parents=True, exist_ok=True)
(shared / "hello.txt").write_text("hello from the client")
seen = client.run(lambda: (shared / "hello.txt").read_text())
assert set(seen.values()) == {"hello from the client"}
print(f"{len(seen)} workers read it")

# %% [markdown]
# ## Workers write, the next ones read
#
# One Parquet file a month, each written where its task runs; then one dataframe of all.

# %%
folder = shared / "months"
folder.mkdir(exist_ok=True)


def simulate(month: int) -> str:
    random = np.random.default_rng(month)
    frame = pd.DataFrame({"month": month, "sensor": np.arange(1_000) % 10, "value": random.normal(month, 1.0, 1_000)})
    path = folder / f"{month:02}.parquet"
    frame.to_parquet(path)
    return str(path)


paths = client.gather(client.map(simulate, range(1, 13)))
means = dd.read_parquet(paths).groupby("month").value.mean().compute().sort_index()
assert (means.round() == means.index).all()
print(means.round(2).to_string())

# %%
client.close()
