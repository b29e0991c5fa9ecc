"""joblib's backend for Dask: it submits batches itself, scatters large arguments, and nests inside tasks."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC


def square(x):
    return x * x


def fail(x):
    raise ValueError(f"bad {x}")


def nested(x):
    return sum(joblib.Parallel()(joblib.delayed(square)(i) for i in range(x)))


def test_parallel(client):
    with joblib.parallel_config("dask"):
        assert joblib.Parallel()(joblib.delayed(square)(i) for i in range(200)) == [i * i for i in range(200)]


def test_an_error_in_a_job(client):
    with joblib.parallel_config("dask"), pytest.raises(ValueError, match="bad"):
        joblib.Parallel()(joblib.delayed(fail)(i) for i in range(20))


def test_scattered_arguments(client):
    large = np.arange(2_000_000)
    with joblib.parallel_config("dask", scatter=[large]):
        sums = joblib.Parallel()(joblib.delayed(np.sum)(large) for _ in range(8))
    assert sums == [large.sum()] * 8


def test_nested_parallelism(client):
    with joblib.parallel_config("dask"):
        assert joblib.Parallel()(joblib.delayed(nested)(x) for x in range(6)) == [nested_sum(x) for x in range(6)]


def nested_sum(x):
    return sum(i * i for i in range(x))


def fit_and_score() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.0001]}, cv=2).fit(X[:600], y[:600])
    scores = cross_val_score(RandomForestClassifier(20, random_state=0), X, y, cv=3)
    return search.cv_results_["mean_test_score"], scores


def test_search_and_forest_of_scikit_learn(client):
    with joblib.parallel_config("dask"):
        found = fit_and_score()
    with joblib.parallel_config("sequential"):
        expected = fit_and_score()
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted)
