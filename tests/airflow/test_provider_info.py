"""The provider's metadata, against Airflow's own schemas and its providers manager."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow._shared.plugins_manager import is_valid_plugin
from airflow._shared.secrets_masker import should_hide_value_for_key
from airflow.providers_manager import ProviderInfo, ProvidersManager
from airflow.sdk.module_loading import import_string
from pytest_mock import MockerFixture

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.get_provider_info import get_provider_info
from airflow_provider_firecrest.hooks.extra import NAMES
from airflow_provider_firecrest.plugins.firecrest import FirecRESTPlugin

ROOT = Path(__file__).parents[2]
INFO = get_provider_info()


def schema(name: str) -> dict:
    return json.loads((Path(airflow.__path__[0]) / name).read_text())


def test_metadata_has_the_form_that_airflow_loads() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


@pytest.mark.parametrize(
    "section", ["connection-types", "integrations", "operators", "sensors", "hooks", "triggers", "task-decorators"]
)
def test_each_section_has_the_form_of_provider_yaml(section: str) -> None:
    whole = schema("provider.yaml.schema.json")
    jsonschema.validate(INFO[section], whole["properties"][section] | {"definitions": whole.get("definitions", {})})


@pytest.mark.parametrize("section", ["operators", "sensors", "hooks", "triggers"])
def test_modules_exist_and_none_is_forgotten(section: str) -> None:
    named = {module for entry in INFO[section] for module in entry["python-modules"]}
    for module in named:
        importlib.import_module(module)
    helpers = {"base", "__init__", "client", "connection", "extra", "job_ending", "task_jobs", "job_fields"}
    helpers |= {
        "connected",
        "dry_run",
        "files",
        "job_files",
        "job_outcome",
        "job_story",
        "local_paths",
        "masking",
        "presets",
        "shown_job",
        "templates",
    }
    package = ROOT / "airflow_provider_firecrest" / section
    found = {f"airflow_provider_firecrest.{section}.{file.stem}" for file in package.glob("*.py")}
    assert named == {module for module in found if module.rpartition(".")[2] not in helpers}


def test_each_decorator_is_a_function_of_its_module() -> None:
    [decorator] = INFO["task-decorators"]
    assert callable(import_string(decorator["class-name"]))
    assert decorator["name"] == "firecrest"


def test_connection_type_names_the_hook() -> None:
    (connection,) = INFO["connection-types"]
    hook = import_string(connection["hook-class-name"])
    assert (connection["connection-type"], connection["hook-name"]) == (hook.conn_type, hook.hook_name)
    assert hook.default_conn_name == "firecrest_default"


def test_every_field_of_the_connection_is_explained() -> None:
    (connection,) = INFO["connection-types"]
    for name, field in connection["conn-fields"].items():
        assert field["description"].endswith("."), name
    assert set(connection["conn-fields"]) == set(NAMES) - {"token_url"}


def test_airflow_neither_hides_nor_warns_of_what_the_form_stores() -> None:
    """It hides a value for its name, and warns in each task's log of a text of one to four characters."""
    (connection,) = INFO["connection-types"]
    fields = connection["conn-fields"]
    assert [name for name in fields if should_hide_value_for_key(name)] == ["proxy"]
    assert should_hide_value_for_key("token_url")
    defaults = [field["schema"].get("default") for field in fields.values()]
    assert not [default for default in defaults if isinstance(default, str)]


def test_the_plugin_prepares_the_api_server_alone(mocker: MockerFixture) -> None:
    prepared = mocker.patch.object(airflow_internals, "give_connections_a_port")
    for is_api_server in (False, True):
        mocker.patch.object(airflow_internals, "is_api_server", return_value=is_api_server)
        FirecRESTPlugin.on_load()
        assert prepared.called is is_api_server


def test_airflow_builds_the_connection_form(caplog: pytest.LogCaptureFixture) -> None:
    manager = ProvidersManager()
    manager.initialize_providers_hooks()
    manager._provider_dict["firecrest-workflows"] = ProviderInfo("0", INFO)
    manager._connection_form_widgets = {
        name: widget
        for name, widget in manager._connection_form_widgets.items()
        if not name.startswith("extra__firecrest__")
    }
    manager._field_behaviours.pop("firecrest", None)
    caplog.clear()
    manager._load_ui_metadata()
    assert not [record.getMessage() for record in caplog.records if "firecrest" in record.getMessage()]
    behaviour = manager._field_behaviours["firecrest"]
    assert behaviour["relabeling"]["host"] == "FirecREST URL *"
    assert set(behaviour["placeholders"]) == {"host", "login", "password"}
    assert manager._connection_form_widgets["extra__firecrest__max_in_flight"].field["schema"]["title"]


def test_the_distribution_declares_the_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    target = project["entry-points"]["apache_airflow_provider"]["provider_info"]
    module, _, function = target.partition(":")
    assert getattr(importlib.import_module(module), function)() == INFO
    assert project["name"] == INFO["package-name"]


def test_the_plugin_is_declared_as_airflow_loads_it() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["airflow.plugins"]
    module, _, name = points["firecrest"].partition(":")
    plugin = getattr(importlib.import_module(module), name)
    assert is_valid_plugin(plugin)
