"""dask-ml: estimators, preprocessing, searches. Its asynchronous searches fail in the client with this Dask."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression as LocalLogisticRegression
from sklearn.tree import DecisionTreeClassifier

pytest.importorskip("dask_ml")


def test_k_means(client):
    from dask_ml.cluster import KMeans

    X = da.from_array(load_digits().data, chunks=(450, -1))
    model = KMeans(n_clusters=10, random_state=0, max_iter=20).fit(X)
    assert len(np.unique(model.predict(X).compute())) == 10


def test_scaler_and_pca(client):
    from dask_ml.decomposition import PCA
    from dask_ml.preprocessing import StandardScaler

    data = load_breast_cancer().data
    X = da.from_array(data, chunks=(150, -1))
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(scaled.compute(), (data - data.mean(axis=0)) / data.std(axis=0))
    assert PCA(n_components=3, random_state=0, svd_solver="tsqr").fit(scaled).explained_variance_ratio_.sum() > 0.7


def test_grid_search(client):
    from dask_ml.model_selection import GridSearchCV

    X, y = load_breast_cancer(return_X_y=True)
    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 3, 5]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.85 and len(search.cv_results_["params"]) == 3


def test_post_fit_predicts_in_blocks(client):
    from dask_ml.wrappers import ParallelPostFit

    X, y = load_breast_cancer(return_X_y=True)
    model = ParallelPostFit(LocalLogisticRegression(max_iter=5000)).fit(X, y)
    assert (model.predict(da.from_array(X, chunks=(100, -1))).compute() == model.estimator.predict(X)).all()
