"""Errors of services and runs."""

from __future__ import annotations


class ServiceFailed(Exception):
    """A service ended by itself, or was not ready in time."""


class RunFailed(Exception):
    """A DAG run or flow run failed or did not end in time; the message holds the logs of what failed."""


class SlurmNotInstalled(Exception):
    """Programs of Slurm are missing; the message names the Debian packages that have them."""
