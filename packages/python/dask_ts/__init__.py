"""The Python side of dask-ts: what only Python can do, as children of the Node processes.

``graph_host`` opens pickled graphs for the scheduler, ``executor`` runs tasks for the worker.
Both speak Dask's own message format with their parent over file descriptor 3 (``bridge``).
"""

__version__ = "0.1.0"
