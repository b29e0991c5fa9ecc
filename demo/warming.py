"""North American air temperature 1860-2099 under two emission scenarios: means, deviations, warming by decade."""

from __future__ import annotations

from pathlib import Path

import iris_sample_data
import numpy as np
import pandas as pd
import xarray as xr

TITLE = "climate: two scenarios, 240 years"
FILES = {"E1": "E1_north_america.nc", "A1B": "A1B_north_america.nc"}
POINT = {"latitude": 40.0, "longitude": 285.0}  # near New York
KELVIN = 273.15


def open_scenarios(chunks) -> xr.DataArray:
    """Air temperature in degrees Celsius: (scenario, time, latitude, longitude)."""
    arrays = []
    for scenario, name in FILES.items():
        data = xr.open_dataset(Path(iris_sample_data.path) / name, engine="h5netcdf", chunks=chunks)
        arrays.append(data.air_temperature.reset_coords(drop=True).assign_coords(scenario=scenario))
    return xr.concat(arrays, dim="scenario") - KELVIN


def analyse(celsius: xr.DataArray) -> dict:
    point = celsius.sel(POINT, method="nearest")
    weights = np.cos(np.deg2rad(celsius.latitude))
    regional = celsius.weighted(weights).mean(["latitude", "longitude"])
    decade = (celsius.time.dt.year // 10 * 10).rename("decade")
    return {
        "mean": celsius.mean("time"),
        "deviation": celsius.std("time"),
        "point": point,
        "by decade": regional.groupby(decade).mean(),
    }


def tables(results: dict) -> dict:
    """The time series at the point, and the decades, as dataframes."""
    point = results["point"]
    series = point.assign_coords(time=point.time.dt.year.values).to_pandas().T
    return {**results, "point": series, "by decade": results["by decade"].to_pandas().T}


def on_cluster(client) -> dict:
    import distributed

    # Into the workers' memory first: they read and convert while the rest is still being written down here.
    celsius = client.persist(open_scenarios({"time": 24}))
    lazy = xr.Dataset({name.replace(" ", "_"): array for name, array in analyse(celsius).items()})
    persisted = client.persist(lazy)
    distributed.progress(persisted, notebook=False, multi=False)
    print()
    done = persisted.compute()
    return tables({name.replace("_", " "): done[name] for name in done})


def without_cluster() -> dict:
    return tables({name: array.load() for name, array in analyse(open_scenarios(None)).items()})


def check(cluster: dict, local: dict) -> None:
    for name, expected in local.items():
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(cluster[name], expected, check_names=False, rtol=1e-4)
        else:
            np.testing.assert_allclose(cluster[name].values, expected.values, rtol=1e-4, atol=1e-3)


def show(results: dict, output) -> list[str]:
    import matplotlib.pyplot as plt

    mean = results["mean"].sel(scenario="A1B")
    figure, axes = plt.subplots(figsize=(8, 4.5))
    shown = axes.pcolormesh(mean.longitude - 360, mean.latitude, mean, cmap="RdYlBu_r", shading="nearest")
    figure.colorbar(shown, label="degrees Celsius")
    axes.set(xlabel="longitude", ylabel="latitude", title="Mean air temperature 1860-2099, scenario A1B")
    figure.savefig(output / "mean-temperature.png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    decades = results["by decade"]
    lines = [f"{'decade':>8}" + "".join(f"{name:>9}" for name in decades.columns)]
    for decade in [1860, 1900, 1950, 2000, 2050, 2090]:
        lines.append(f"{decade:>8}" + "".join(f"{decades.loc[decade, name]:>8.2f}C" for name in decades.columns))
    for name in decades.columns:
        lines.append(f"warming 1860s to 2090s, {name}: {decades.loc[2090, name] - decades.loc[1860, name]:+.2f} C")
    return lines
