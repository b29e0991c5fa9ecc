# %% [markdown]
# # Arrays, dataframes and bags
#
# On a cluster of plain machines, or any other: `DASK_SCHEDULER_ADDRESS` says where the scheduler is; without it a
# small cluster starts on this machine. `CSV` names a file that every worker can read under the same name (a copy on
# each node, a network drive, `s3://…`, `https://…`); without it one is written here first, which is enough where all
# share `/tmp`.

# %%
import csv
import json
import os
import random
import tempfile

import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
from distributed import Client

client = Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
print(client)

# %% [markdown]
# ## A numpy array, in pieces
#
# The array is cut into blocks, each block is a task's data on some worker.

# %%
SIZE = int(os.environ.get("SIZE", 4_000))
local = np.arange(SIZE * SIZE, dtype="float64").reshape(SIZE, SIZE)
x = da.from_array(local, chunks=(SIZE // 4, SIZE // 4))
y = (x + x.T)[::2, SIZE // 2 :].mean(axis=1)
result = y.compute()
assert np.allclose(result, (local + local.T)[::2, SIZE // 2 :].mean(axis=1))
print(f"{x.npartitions} blocks, the mean of the means is {result.mean():.1f}")

# %% [markdown]
# ## A dataframe from CSV
#
# Questions and answers with their tags, one post a line; the workers read the file, each a part.

# %%
TAGS = ["python", "r", "sql", "javascript", "bash"]


def write_posts(path: str, rows: int) -> None:
    random.seed(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Id", "CreationDate", "Score", "Tag"])
        for row in range(rows):
            date = f"20{random.randrange(10, 20)}-{random.randrange(1, 13):02}-01"
            writer.writerow([row, date, random.randrange(-5, 100), random.choice(TAGS)])


path = os.environ.get("CSV")
if path is None:
    path = os.path.join(tempfile.gettempdir(), "stackoverflow.csv")
    write_posts(path, int(os.environ.get("ROWS", 200_000)))
posts = dd.read_csv(path, parse_dates=["CreationDate"], blocksize="1MB")
by_tag = posts.groupby("Tag").Score.agg(["count", "mean"]).compute()
by_year = posts.groupby(posts.CreationDate.dt.year).Id.count().compute().sort_index()
assert by_tag["count"].sum() == by_year.sum() == len(posts)
print(by_tag.round(2))
print(by_year.to_string())

# %% [markdown]
# ## A bag of Python objects
#
# For what is no table: records from log files, documents, whatever Python can hold.

# %%
records = db.from_sequence(range(10_000), npartitions=20).map(
    lambda number: json.dumps({"name": TAGS[number % len(TAGS)], "amount": number})
)
totals = dict(
    records.map(json.loads)
    .filter(lambda record: record["amount"] % 2 == 0)
    .foldby("name", lambda total, record: total + record["amount"], 0, lambda one, other: one + other)
    .compute()
)
assert sum(totals.values()) == sum(range(0, 10_000, 2))
print(totals)

# %%
client.close()
