"""Several machines, by Dask: steps of the daemon run on workers. Imported only where it is set."""
