"""Handwritten digits: a grid search over a support vector machine, its fits run as tasks through joblib."""

from __future__ import annotations

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

TITLE = "scikit-learn: grid search on digits"
GRID = {"C": [0.1, 1.0, 10.0], "gamma": [0.0005, 0.001, 0.005]}


def search() -> GridSearchCV:
    return GridSearchCV(SVC(), GRID, cv=3, n_jobs=-1)


def fit() -> dict:
    data, target = load_digits(return_X_y=True)
    found = search().fit(data, target)
    return {"best": found.best_params_, "score": found.best_score_, "scores": found.cv_results_["mean_test_score"]}


def on_cluster(client) -> dict:
    with joblib.parallel_backend("dask", wait_for_workers_timeout=30):
        return fit()


def without_cluster() -> dict:
    with joblib.parallel_backend("sequential"):
        return fit()


def check(cluster: dict, local: dict) -> None:
    assert cluster["best"] == local["best"], (cluster["best"], local["best"])
    np.testing.assert_allclose(cluster["scores"], local["scores"])


def show(results: dict, output) -> list[str]:
    return [f"best: {results['best']}, accuracy {results['score']:.4f} over {len(results['scores'])} settings"]
