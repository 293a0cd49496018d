"""Processes a workflow on a Dask cluster, to be killed: spread_child.py STORE WORKFLOW ADDRESS."""

import sys
from datetime import timedelta

import joblib
from distributed import Client
from spread_embedder import by_process

import vectorstore as vs
from vectorstore.embedders import CallableEmbedder

if __name__ == "__main__":
    path, workflow, address = sys.argv[1:]
    embedder = CallableEmbedder(by_process, "by process", 17, normalise=False)
    with (
        vs.open(path, embedder=embedder, metric="ip", auto_publish=False) as store,
        Client(address),
        joblib.parallel_config(backend="dask"),
    ):
        store.workflows.process(workflow, lease=timedelta(seconds=5))
