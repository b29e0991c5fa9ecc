"""xgboost.dask: its tracker runs in the client, its ranks in the workers' tasks, all ranks at once."""

from __future__ import annotations

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from sklearn.datasets import load_breast_cancer, load_diabetes
from xgboost import dask as dxgb


@pytest.fixture(scope="module")
def cancer():
    return load_breast_cancer(return_X_y=True)


def chunked(X, y, rows: int = 150):
    return da.from_array(X, chunks=(rows, -1)), da.from_array(y, chunks=rows)


def test_train_and_predict(client, cancer):
    X, y = chunked(*cancer)
    dtrain = dxgb.DaskDMatrix(client, X, y)
    output = dxgb.train(
        client, {"objective": "binary:logistic", "eval_metric": "logloss"}, dtrain, 20, evals=[(dtrain, "train")]
    )
    losses = output["history"]["train"]["logloss"]
    assert len(losses) == 20 and losses[-1] < 0.1 < losses[0]
    predicted = dxgb.predict(client, output, X).compute()
    assert ((predicted > 0.5) == cancer[1]).mean() > 0.98
    local = output["booster"].predict(xgb.DMatrix(cancer[0]))
    np.testing.assert_allclose(predicted, local, rtol=1e-5)


def test_early_stopping(client):
    X, y = load_diabetes(return_X_y=True)
    dtrain = dxgb.DaskDMatrix(client, *chunked(X[:300], y[:300], 100))
    dvalid = dxgb.DaskDMatrix(client, *chunked(X[300:], y[300:], 100))
    output = dxgb.train(
        client, {"objective": "reg:squarederror"}, dtrain, 500, evals=[(dvalid, "valid")], early_stopping_rounds=5
    )
    assert output["booster"].best_iteration < len(output["history"]["valid"]["rmse"]) < 500


def test_classifier_of_dataframes(client, cancer):
    frame = pd.DataFrame(cancer[0], columns=[f"c{i}" for i in range(cancer[0].shape[1])])
    X = dd.from_pandas(frame, npartitions=4)
    y = dd.from_pandas(pd.Series(cancer[1], name="y"), npartitions=4)
    classifier = dxgb.DaskXGBClassifier(n_estimators=20, tree_method="hist")
    classifier.client = client
    classifier.fit(X, y)
    assert (classifier.predict(X).compute() == cancer[1]).mean() > 0.98
    assert classifier.predict_proba(X).compute().shape == (len(frame), 2)


def test_regressor(client):
    X, y = load_diabetes(return_X_y=True)
    regressor = dxgb.DaskXGBRegressor(n_estimators=50, max_depth=3)
    regressor.client = client
    regressor.fit(*chunked(X, y, 120))
    errors = regressor.predict(chunked(X, y, 120)[0]).compute() - y
    assert np.abs(errors).mean() < 40


def test_an_error_in_training_reaches_the_client(client, cancer):
    X, y = chunked(*cancer)
    with pytest.raises(Exception, match="Unknown objective function"):
        dxgb.train(client, {"objective": "no:such"}, dxgb.DaskDMatrix(client, X, y), 2)
    # The workers go on.
    dxgb.train(client, {"objective": "binary:logistic"}, dxgb.DaskDMatrix(client, X, y), 2)
