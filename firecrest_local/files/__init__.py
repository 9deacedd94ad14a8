"""Files of the cluster: operations, archives, the staging store, and the paths that clients may see."""
