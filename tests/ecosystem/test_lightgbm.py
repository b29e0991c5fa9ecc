"""lightgbm.dask: opens ports in the workers with client.run, then trains in tasks that are pinned to them."""

from __future__ import annotations

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from lightgbm import DaskLGBMClassifier, DaskLGBMRanker, DaskLGBMRegressor, LGBMClassifier
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine


def chunked(X, y, rows: int = 150):
    return da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)


def test_classifier(client):
    X, y = load_breast_cancer(return_X_y=True)
    dX, dy = chunked(X, y)
    classifier = DaskLGBMClassifier(client=client, n_estimators=20, verbose=-1).fit(dX, dy)
    predicted = classifier.predict(dX).compute()
    assert (predicted == y).mean() > 0.98
    local = classifier.to_local()
    assert isinstance(local, LGBMClassifier) and (local.predict(X) == predicted).all()


def test_classes_of_dataframes(client):
    X, y = load_wine(return_X_y=True, as_frame=True)
    frame = pd.DataFrame(np.tile(X.to_numpy(), (4, 1)), columns=[f"c{i}" for i in range(X.shape[1])])
    labels = pd.Series(np.tile(y.to_numpy(), 4), name="y")
    dX, dy = dd.from_pandas(frame, npartitions=4), dd.from_pandas(labels, npartitions=4)
    classifier = DaskLGBMClassifier(client=client, n_estimators=10, verbose=-1).fit(dX, dy)
    assert (classifier.predict(dX).compute() == labels.to_numpy()).mean() > 0.98
    assert classifier.predict_proba(dX).compute().shape == (len(frame), 3)


def test_regressor(client):
    X, y = load_diabetes(return_X_y=True)
    dX, dy = chunked(X, y, 120)
    regressor = DaskLGBMRegressor(client=client, n_estimators=50, verbose=-1).fit(dX, dy)
    assert np.abs(regressor.predict(dX).compute() - y).mean() < 40


def test_ranker(client):
    random = np.random.default_rng(0)
    X = random.random((200, 5))
    relevance = np.digitize(X[:, 0], [0.3, 0.6])
    dX, dy = chunked(X, relevance, 100)
    group = da.from_array(np.full(20, 10), chunks=10)
    ranker = DaskLGBMRanker(client=client, n_estimators=10, min_child_samples=2, verbose=-1).fit(dX, dy, group=group)
    assert np.corrcoef(ranker.predict(dX).compute(), X[:, 0])[0, 1] > 0.8
