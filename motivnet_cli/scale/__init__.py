"""Several processes that share one run: on this machine, or on a Ray cluster."""
