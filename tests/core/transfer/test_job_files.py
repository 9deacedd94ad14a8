"""The files of a job: what is sent before it is submitted, and what is fetched when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrest_core import JobState, System
from firecrest_core.errors import FirecRESTError, InvalidFileName, RemotePathNotFound
from firecrest_core.job_files import check_files, fetch_outputs, shared_places, upload_inputs
from firecrest_core.result import JobResult


def result(there: Path, state: JobState = JobState.COMPLETED) -> JobResult:
    return JobResult(job_id="57", system="local", state=state, working_dir=str(there))


async def test_inputs_end_in_the_same_place_however_often(system: System, there: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "leaf").write_text("leaf")
    (tmp_path / "si.in").write_text("si")
    inputs = [
        (tmp_path / "si.in", "renamed.in"),
        (tmp_path / "si.in", "deep/down/"),
        (tmp_path / "tree", "tree"),
        (str(tmp_path / "si.in"), f"{there}/absolute.in"),
        (tmp_path / "si.in", "."),
    ]
    for _ in range(2):
        sent = await upload_inputs(system, str(there), inputs)
    names = ["renamed.in", "deep/down/si.in", "tree", "absolute.in", "si.in"]
    assert [one.remote for one in sent] == [f"{there}/{name}" for name in names]
    assert sorted(path.name for path in there.iterdir()) == ["absolute.in", "deep", "renamed.in", "si.in", "tree"]
    assert [path.name for path in (there / "tree").iterdir()] == ["leaf"]


async def test_outputs_end_in_the_same_place_however_often(system: System, there: Path, tmp_path: Path) -> None:
    for name in ("slurm-57.out", "results/a/x.json", "tree/leaf"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(name)
    outputs = [
        ("slurm-{job_id}.out", tmp_path / "log.txt"),
        ("results/**/*.json", str(tmp_path / "json")),
        ("tree", tmp_path / "tree"),
        ("tree/leaf", f"{tmp_path}/into/"),
        ("tree/leaf", str(tmp_path / "exists")),
        ("tree/leaf", f"{tmp_path}/leaf-{{job_id}}"),
    ]
    (tmp_path / "exists").mkdir()
    for _ in range(2):
        fetched = await fetch_outputs(system, result(there), outputs)
    assert [one.local for one in fetched] == [
        f"{tmp_path}/{at}" for at in ("log.txt", "json/a/x.json", "tree", "into/leaf", "exists/leaf", "leaf-57")
    ]
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["leaf"]


async def test_a_working_directory_that_does_not_exist_is_not_made(system: System, there: Path, tmp_path: Path) -> None:
    (tmp_path / "si.in").write_text("si")
    with pytest.raises(RemotePathNotFound, match="make_working_dir"):
        await upload_inputs(system, f"{there}/misspelt", [(tmp_path / "si.in", "deep/down/")])
    assert not (there / "misspelt").exists()


async def test_paths_with_variables(system: System, there: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(system.connection.paths, "HERE", str(there))
    (tmp_path / "si.in").write_text("si")
    [sent] = await upload_inputs(system, str(there), [(tmp_path / "si.in", "$HERE/from_variable.in")])
    [fetched] = await fetch_outputs(system, result(there), [("$HERE/from_*.in", tmp_path / "back")])
    assert (sent.remote, fetched.local) == (f"{there}/from_variable.in", f"{tmp_path}/back/from_variable.in")


async def test_local_paths_from_home(system: System, there: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "si.in").write_text("si")
    [sent] = await upload_inputs(system, str(there), [("~/si.in", "in/")])
    assert (sent.local, sent.remote) == (f"{tmp_path}/si.in", f"{there}/in/si.in")
    outputs = [("in/si.in", "~/results/"), ("in/*.in", "~/all"), ("in/si.in", "~/new.in")]
    fetched = await fetch_outputs(system, result(there), outputs)
    assert [one.local for one in fetched] == [f"{tmp_path}/{at}" for at in ("results/si.in", "all/si.in", "new.in")]
    with pytest.raises(InvalidFileName, match="would both become"):
        check_files([], [("one/x", "~/x"), ("two/x", f"{tmp_path}/x")])


async def test_two_patterns_that_find_files_of_one_name(system: System, there: Path, tmp_path: Path) -> None:
    for name in ("a/x.json", "b/x.json"):
        (there / name).parent.mkdir()
        (there / name).write_text(name)
    outputs = [("a/*.json", tmp_path / "out"), ("b/*.json", tmp_path / "out"), ("a/x.js*", tmp_path / "out")]
    with pytest.raises(InvalidFileName, match="would both become"):
        await fetch_outputs(system, result(there), outputs)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([("a", "x"), ("b", "./x")], [], "a and b would both become"),
        ([("one/x", "in/"), ("two/x", "in/")], [], "would both become in/x"),
        ([], [("one/x", "."), ("two/x", ".")], "would both become"),
        ([("a", None)], [], "inputs: None is no path on a system"),
        ([("a", "")], [], "inputs: '' is no path on a system"),
        ([], [("x", 3)], "outputs: 3 is no path on this side"),
        ([], [("x", "s3://bucket/x")], "is no local path"),
    ],
)
def test_what_is_refused_before_anything_is_sent(inputs, outputs, words: str) -> None:
    with pytest.raises(FirecRESTError, match=words):
        check_files(inputs, outputs)


@pytest.mark.parametrize(
    ("path", "target", "places"),
    [
        ("x", "/a/y", ["/a/y"]),
        ("deep/x", "/a/b/", ["/a/b/x"]),
        ("x", "/a/{job_id}/", []),
        ("x-{job_id}.out", "/a/", []),
        ("x-{job_id}.out", "/a/x", ["/a/x"]),
        ("*.out", "/a/b/", ["/a/b"]),
        ("*-{job_id}.out", "/a", []),
        ("*.out", Path("/a"), ["/a"]),
    ],
)
def test_places_that_outputs_of_another_job_would_take(path: str, target: str | Path, places: list[str]) -> None:
    assert shared_places([(path, target)]) == places


async def test_outputs_of_a_failed_job(system: System, there: Path, tmp_path: Path) -> None:
    (there / "log").write_text("log")
    outputs = [("missing", tmp_path / "missing"), ("*.nc", tmp_path), ("log", tmp_path / "log")]
    fetched = await fetch_outputs(system, result(there, JobState.FAILED), outputs)
    assert [one.local for one in fetched] == [str(tmp_path / "log")]
    with pytest.raises(RemotePathNotFound):
        await fetch_outputs(system, result(there), outputs)


async def test_an_object_store_that_fails_does_not_hide_the_failure_of_a_job(
    system: System, there: Path, tmp_path: Path, mocker, caplog
) -> None:
    (there / "log").write_text("log")
    mocker.patch("firecrest_core.transfer.download.staged_target", side_effect=RuntimeError("no such bucket"))
    assert await fetch_outputs(system, result(there, JobState.FAILED), [("log", tmp_path / "log")]) == []
    assert "log was not fetched, as the job failed: no such bucket" in caplog.text


async def test_outputs_that_are_not_there(system: System, there: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "c.txt"):
        (there / name).write_text(name)
    outputs = [(name, tmp_path / "out" / name) for name in ("a.txt", "b.txt", "*.nc", "c.txt")]
    with pytest.raises(RemotePathNotFound, match=r"outputs: job 57 ended COMPLETED, but .*b\.txt.*") as refusal:
        await fetch_outputs(system, result(there), outputs)
    assert "*.nc" in str(refusal.value)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.txt", "c.txt"]
