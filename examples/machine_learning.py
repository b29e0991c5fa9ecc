# %% [markdown]
# # Machine learning: a grid search, clusters of points, gradient boosting
#
# scikit-learn's own `GridSearchCV` with its jobs on the cluster, dask-ml's `KMeans` on an array that no one machine
# holds, and `xgboost.dask`. The image needs the libraries too: build one `FROM` ours, or start it with
# `EXTRA_PIP_PACKAGES="scikit-learn dask-ml xgboost"`; `client.get_versions(check=True)` tells what differs.

# %%
import os

import dask
import dask.array as da
import joblib
import numpy as np
from distributed import Client
from sklearn.datasets import load_digits, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from xgboost import dask as dxgb

client = Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
client.get_versions(check=True, packages=["scikit-learn"])
print(client)

# %% [markdown]
# ## A grid search
#
# 16 combinations of parameters, each with 3 splits of the data: 48 fits, which joblib sends to the workers.

# %%
X, y = load_digits(return_X_y=True)
rows = int(os.environ.get("DIGITS", len(X)))
grid = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 5e-4, 1e-3, 5e-3]}
search = GridSearchCV(SVC(), grid, cv=3)
with joblib.parallel_config("dask"):
    search.fit(X[:rows], y[:rows])
assert len(search.cv_results_["params"]) == 16
print(f"best of 48 fits: {search.best_score_:.3f} with {search.best_params_}")

# %% [markdown]
# ## Clusters of points
#
# `persist` puts the points into the workers' memory once; every step of the algorithm goes over them there.

# %%
POINTS = int(os.environ.get("POINTS", 10_000_000))
CENTRES = np.array([[0.0, 0.0], [10.0, 10.0], [-10.0, 10.0], [10.0, -10.0]])


def blob(seed: int, count: int) -> np.ndarray:
    return make_blobs(count, centers=CENTRES, cluster_std=1.0, random_state=seed)[0]


BLOCKS = 20
size = POINTS // BLOCKS
parts = [dask.delayed(blob)(seed, size) for seed in range(BLOCKS)]
points = da.concatenate([da.from_delayed(part, (size, 2), dtype=float) for part in parts])
points = client.persist(points)
try:
    from dask_ml.cluster import KMeans
except ImportError:
    print("dask-ml is not installed here: no KMeans")
else:
    model = KMeans(n_clusters=4, init_max_iter=2, random_state=0).fit(points)
    found = np.sort(model.cluster_centers_.round().astype(int), axis=0)
    assert (found == np.sort(CENTRES.astype(int), axis=0)).all()
    print(f"{len(points):,} points around {model.cluster_centers_.round(2).tolist()}")

# %% [markdown]
# ## Gradient boosting
#
# Every worker trains on the rows that it holds; the trees grow together.

# %%
features = points
labels = (points[:, 0] * points[:, 1] > 0).astype(int)
training = dxgb.DaskDMatrix(client, features, labels)
settings = {"objective": "binary:logistic", "tree_method": "hist"}
output = dxgb.train(client, settings, training, num_boost_round=10, evals=[(training, "train")])
predicted = dxgb.predict(client, output, features)
accuracy = ((predicted > 0.5) == labels).mean().compute()
assert accuracy > 0.95
print(f"accuracy {accuracy:.3f}, loss {output['history']['train']['logloss'][-1]:.3f}")

# %%
client.close()
