"""Both faces in one environment: the newest Prefect that Airflow's pins allow, imported beside Airflow."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

import airflow_provider_firecrest
import prefect_firecrest

# Imported by Airflow's provider for OpenLineage alone, which is an extra.
OF_AN_EXTRA = {"airflow_provider_firecrest.openlineage"}
MODULES = [
    module.name
    for package in (airflow_provider_firecrest, prefect_firecrest)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if module.name not in OF_AN_EXTRA
]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


@pytest.mark.parametrize("order", [("airflow.sdk", "prefect"), ("prefect", "airflow.sdk")])
def test_the_order_of_the_imports_does_not_matter(order: tuple[str, str]) -> None:
    code = "; ".join(f"import {name}" for name in (*order, *MODULES))
    subprocess.run([sys.executable, "-c", code], check=True)


def test_both_engines_find_their_face() -> None:
    providers = [point.load()()["package-name"] for point in entry_points(group="apache_airflow_provider")]
    assert "firecrest-workflows" in providers
    assert "prefect_firecrest" in entry_points(group="prefect.collections").names


def test_the_floor_of_the_prefect_extra_is_what_is_tested() -> None:
    assert tuple(map(int, version("prefect").split(".")[:3])) >= (3, 7, 7)
