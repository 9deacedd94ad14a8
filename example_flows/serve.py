"""Serve the example flows: deployments that can be run, with parameters, from Prefect's UI.

    python example_flows/serve.py

The process that serves them runs them, too, until it is stopped.
"""

from __future__ import annotations

from array_sweep import array_sweep
from parameter_sweep import parameter_sweep
from prefect import serve
from python_function import python_function
from race_the_queues import race_the_queues
from structure_energy import structure_energy
from train_model import train_model
from train_with_checkpoints import train_with_checkpoints

if __name__ == "__main__":
    flows = (
        structure_energy,
        train_model,
        parameter_sweep,
        array_sweep,
        python_function,
        train_with_checkpoints,
        race_the_queues,
    )
    serve(*[each.to_deployment("example") for each in flows])
