# %% [markdown]
# # ERA5 from S3: temperatures, their mean and spread, a series at a point
#
# Monthly NetCDF files and a Zarr store, shaped as ERA5's on S3. `DATA` is where they are (`s3://bucket/prefix`); with
# `MAKE_DATA=1` small ones are written there first. Workers read with the rights of their task role, no keys in code.
# The workshop's own 200 GB: `s3://era5-pds/…/air_temperature_at_2_metres.nc`, on 12 to 72 workers.

# %%
import os

import dask
import numpy as np
import pandas as pd
import s3fs
import xarray as xr
from distributed import Client, performance_report, progress

client = Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
data = os.environ.get("DATA", "s3://era5-example/2m").removeprefix("s3://")
NAME = "air_temperature_at_2_metres"
KELVIN = 273.15
print(client)

# %%
MONTHS = pd.date_range("2019-01-01", periods=int(os.environ.get("MONTHS", 12)), freq="MS")


def make_month(start: pd.Timestamp) -> xr.Dataset:
    """Hours of one month, with a season, a day and a gradient from pole to pole."""
    hours = pd.date_range(start, start + pd.offsets.MonthBegin(1), freq="6h", inclusive="left")
    lat, lon = np.linspace(90, -90, 19), np.arange(0, 360, 15.0)
    season = 10 * np.cos(2 * np.pi * (hours.day_of_year - 200) / 365)
    day = 5 * np.cos(2 * np.pi * (hours.hour - 14) / 24)
    base = KELVIN + 30 - 0.6 * np.abs(lat)
    values = base[None, :, None] + (season + day).to_numpy()[:, None, None] + np.zeros(len(lon))
    return xr.Dataset(
        {NAME: (("time0", "lat", "lon"), values.astype("float32"), {"units": "K"})},
        {"time0": hours, "lat": lat, "lon": lon},
    )


if os.environ.get("MAKE_DATA"):
    s3 = s3fs.S3FileSystem()
    bucket = data.split("/")[0]
    if not s3.exists(bucket):
        s3.mkdir(bucket)
    for month in MONTHS:
        # With a client, xarray takes a lock of the cluster to write, by the name of the file; one in memory has none.
        with s3.open(f"{data}/{month:%Y/%m}/{NAME}.nc", "wb") as file, dask.config.set(scheduler="synchronous"):
            file.write(bytes(make_month(month).to_netcdf(engine="h5netcdf")))

# %% [markdown]
# ## Many files as one array
#
# Each file is opened by a task on a worker, so that this side reads no data; `parallel=True` reads all headers at once.

# %%


@dask.delayed
def s3open(path):
    return s3fs.S3FileSystem(default_fill_cache=False).open(path)


paths = sorted(s3fs.S3FileSystem().glob(f"{data}/*/*/{NAME}.nc"))
dataset = xr.open_mfdataset(
    [s3open(path) for path in paths],
    engine="h5netcdf",
    chunks={"lat": 10, "lon": 12, "time0": 124},
    concat_dim="time0",
    combine="nested",
    coords="minimal",
    compat="override",
    parallel=True,
)
print(f"{len(paths)} files, {dataset.nbytes / 2**20:.1f} MiB, {dataset[NAME].data.npartitions} chunks")

# %% [markdown]
# ## Into the cluster's memory
#
# Follow it on the dashboard, `/status` and `/workers`.

# %%
kelvin = client.persist(dataset[NAME])
progress(kelvin, notebook=False)
print()

# %% [markdown]
# ## From Kelvin to Celsius, means, standard deviations
#
# The report is a page of its own, with every task in it.

# %%
with performance_report(filename=os.environ.get("REPORT", "climate-report.html")):
    celsius = client.persist(kelvin - KELVIN)
    mean = celsius.mean("time0").persist()
    deviation = celsius.std("time0").persist()
    progress(mean, deviation, notebook=False)
    print()
    summary = xr.Dataset({"mean": mean, "deviation": deviation}).compute()
equator = float(summary["mean"].sel(lat=0, method="nearest").mean())
pole = float(summary["mean"].sel(lat=90, method="nearest").mean())
assert equator > pole
assert float(summary["deviation"].min()) > 0
print(f"mean at the equator {equator:.1f} °C, at the pole {pole:.1f} °C")

# %% [markdown]
# ## Points over time, as a dataframe

# %%
POINTS = {"Ushuaia": (-54.8, 291.7), "Nairobi": (-1.3, 36.8), "Oslo": (59.9, 10.8)}
series = {place: celsius.sel(lat=lat, lon=lon, method="nearest") for place, (lat, lon) in POINTS.items()}
frame = pd.DataFrame({place: one.to_series() for place, one in dask.compute(series)[0].items()})
assert len(frame) == dataset.sizes["time0"]
print(frame.resample("MS").mean().round(1))

# %% [markdown]
# ## The same from Zarr
#
# One store instead of many files: nothing but its metadata is read before there is work to do.

# %%
store = f"s3://{data}.zarr"
if os.environ.get("MAKE_DATA"):
    dataset.drop_encoding().chunk({"time0": 124, "lat": -1, "lon": -1}).to_zarr(store, mode="w")
warmest = (xr.open_zarr(store)[NAME] - KELVIN).max("time0").compute()
assert warmest.shape == summary["mean"].shape
print(f"warmest: {float(warmest.max()):.1f} °C")

# %% [markdown]
# ## More workers, and fewer
#
# On AWS the number of workers is the desired count of a service. In the workshop's notebook:
#
#     ecs = boto3.client("ecs")
#     cluster = os.environ["DASK_CLUSTER_NAME"]
#     ecs.update_service(cluster=cluster, service="Dask-Worker", desiredCount=12)
#     ecs.get_waiter("services_stable").wait(cluster=cluster, services=["Dask-Worker"])

# %%
wanted = os.environ.get("SCALE_TO")
if wanted is not None:
    import boto3

    ecs = boto3.client("ecs")
    cluster = os.environ["DASK_CLUSTER_NAME"]
    ecs.update_service(cluster=cluster, service="Dask-Worker", desiredCount=int(wanted))
    ecs.get_waiter("services_stable").wait(cluster=cluster, services=["Dask-Worker"])
    client.wait_for_workers(int(wanted))
    print(f"{len(client.scheduler_info()['workers'])} workers")

# %%
client.close()
