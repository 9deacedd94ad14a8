"""Files that were copied, in the events of a task's outlets and as lineage."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.lineage import HookLineageCollector
from openlineage.client.serde import Serde

from airflow_provider_firecrest import assets
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import (
    FirecRESTDownloadFromJobOperator,
    FirecRESTDownloadOperator,
    FirecRESTSubmitOperator,
    FirecRESTUploadOperator,
)

SHA256 = hashlib.sha256(b"42").hexdigest()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> HookLineageCollector:
    """What a reader of Airflow's lineage would get."""
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.sdk.lineage.get_hook_lineage_collector", lambda: collector)
    return collector


@pytest.fixture
def system(connection: Any) -> str:
    return connection.system


def uris(collected: Any) -> tuple[list[str], list[str]]:
    lineage = collected.collected_assets
    return [one.asset.uri for one in lineage.inputs], [one.asset.uri for one in lineage.outputs]


def test_an_outlet_that_is_the_file(connected, system, workdir, tmp_path, run_task, collector) -> None:
    (workdir / "a b.txt").write_text("42")
    outlet = Asset(f"file://{tmp_path}/a%20b.txt")
    run = run_task(
        lambda: FirecRESTDownloadOperator(
            task_id="down", remote_files=f"{workdir}/a b.txt", local_path=f"{tmp_path}/", outlets=[outlet]
        )
    )
    assert run.outlet_events[outlet].extra == {
        "system": system,
        "remote": f"{workdir}/a b.txt",
        "size": 2,
        "sha256": SHA256,
    }
    assert uris(collector) == ([f"firecrest://{system}{workdir}/a%20b.txt"], [outlet.uri])


def test_an_upload(connected, system, workdir, tmp_path, run_task, collector) -> None:
    (tmp_path / "in").write_text("42")
    outlet = Asset(f"firecrest://{system}{workdir}/in")
    run = run_task(
        lambda: FirecRESTUploadOperator(
            task_id="up", source_path=f"{tmp_path}/in", target_path=f"{workdir}/in", outlets=[outlet]
        )
    )
    assert run.outlet_events[outlet].extra["sha256"] == SHA256
    assert uris(collector) == ([f"file://{tmp_path}/in"], [outlet.uri])


def test_the_files_of_another_tasks_job(connected, workdir, tmp_path, run_task, ti) -> None:
    (workdir / "out").write_text("42")
    ti.pulled["job", None] = {"job_id": "7", "working_directory": str(workdir)}
    outlet = Asset(name="energies")
    run = run_task(
        lambda: FirecRESTDownloadFromJobOperator(
            task_id="down", remote_files="out", local_path=f"{tmp_path}/", target_task_id="job", outlets=[outlet]
        )
    )
    assert run.outlet_events[outlet].extra["job_id"] == "7"
    assert [file["sha256"] for file in run.outlet_events[outlet].extra["files"]] == [SHA256]


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_the_outputs_of_a_job(connected, system, workdir, tmp_path, run_task, collector, deferrable) -> None:
    (tmp_path / "in").write_text("42")
    one, inside, other = Asset(f"file://{tmp_path}/copy"), Asset(f"file://{tmp_path}/tree/x"), Asset("s3://bucket/none")
    alias = AssetAlias("all")
    run = run_task(
        lambda: FirecRESTSubmitOperator(
            task_id="job",
            script="#!/bin/bash\ncp in out; mkdir tree; cp in tree/x\n",
            working_dir=str(workdir),
            inputs={f"{tmp_path}/in": "in"},
            outputs={"out": f"{tmp_path}/copy", "tree": f"{tmp_path}/tree"},
            outlets=[one, inside, other, alias],
            poll_interval=0.2,
            deferrable=deferrable,
        )
    )
    job = {"job_id": run.result["job_id"], "system": system, "state": "COMPLETED"}
    file = {"system": system, "remote": f"{workdir}/out", "size": 2, "sha256": SHA256}
    tree = {"system": system, "remote": f"{workdir}/tree", "size": 2}
    extras = [run.outlet_events[outlet].extra for outlet in (one, inside, other)]
    assert extras == [job | file, job | tree, job | {"files": [file, tree]}]
    assert [event.dest_asset_key.uri for event in run.outlet_events[alias].asset_alias_events] == [
        f"file://{tmp_path}/copy",
        f"file://{tmp_path}/tree",
    ]
    inputs, outputs = uris(collector)
    assert inputs == [f"file://{tmp_path}/in"]
    assert outputs == [
        f"firecrest://{system}{workdir}/out",
        f"file://{tmp_path}/copy",
        f"firecrest://{system}{workdir}/tree",
        f"file://{tmp_path}/tree",
    ]


def test_a_job_without_outputs(connected, workdir, run_task) -> None:
    outlet = Asset("s3://bucket/made/by/the/job")
    run = run_task(
        lambda: FirecRESTSubmitOperator(
            task_id="job", command="true", working_dir=str(workdir), outlets=[outlet], poll_interval=0.2
        )
    )
    assert run.outlet_events[outlet].extra["job_id"] == run.result["job_id"]


def test_the_hook(connected, system, workdir, tmp_path, collector) -> None:
    hook = FirecRESTHook()
    (tmp_path / "in").write_text("42")
    hook.upload(f"{tmp_path}/in", f"{workdir}/there")
    hook.download(f"{workdir}/there", f"{tmp_path}/back")
    there = f"firecrest://{system}{workdir}/there"
    assert uris(collector) == ([f"file://{tmp_path}/in", there], [there, f"file://{tmp_path}/back"])


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/a/b c#?.txt", "file:///a/b%20c%23%3F.txt"),
        ("s3://my_conn@bucket/a key", "s3://bucket/a%20key"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_uris_on_our_side(path, uri) -> None:
    assert assets.local_uri(path) == uri
    assert Asset(uri).uri == uri


@pytest.mark.parametrize("uri", ["firecrest:///users/me/file", "firecrest://daint", "firecrest://daint/"])
def test_uris_that_name_no_file(uri: str) -> None:
    with pytest.raises(ValueError, match="<system>/<path>"):
        assets.sanitize_uri(urlsplit(uri))


def test_what_openlineage_says(connected, system, workdir, run_task) -> None:
    made = []

    def make() -> Any:
        made.append(FirecRESTSubmitOperator(task_id="job", command="true", working_dir=str(workdir), poll_interval=0.2))
        return made[-1]

    assert make().get_openlineage_facets_on_complete(None).run_facets == {}
    run = run_task(make)
    facets = made[-1].get_openlineage_facets_on_complete(None).run_facets
    facet = Serde.to_dict(facets["firecrest_job"])
    assert (facet["jobId"], facet["system"], facet["state"]) == (run.result["job_id"], system, "COMPLETED")
    dataset = assets.to_openlineage(Asset(f"firecrest://{system}/users/me/a%20b"), None)
    assert (dataset.namespace, dataset.name) == (f"firecrest://{system}", "/users/me/a b")
