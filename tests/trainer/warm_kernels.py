"""Imported by the server of `children.py`: loads the compiled kernels of the clustering, which takes half a second."""

import numpy as np

from trainer.clustering.recluster import ClusterSettings, cluster

cluster(np.eye(8, dtype=np.float32), ClusterSettings(workers=1), np.zeros(8, np.int64))
