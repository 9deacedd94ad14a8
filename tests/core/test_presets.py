"""Presets: where they are looked for, what they inherit, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from firecrest_core.chain import Chain
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError, InvalidJobSpec
from firecrest_core.hidden_values import without_hidden_values
from firecrest_core.presets import FILE_NAME, VARIABLE, Preset, Presets

TRAINING = """
[clariden]
system = "clariden"
account = "a123"
partition = "normal"
login_shell = true
modules = ["cray"]
environment = {NCCL_DEBUG = "WARN", OMP_NUM_THREADS = 8}

[clariden-train]
inherits = "clariden"
launcher = "torchrun"
modules = ["pytorch"]
setup = ["ulimit -s unlimited"]
environment = {NCCL_DEBUG = "INFO"}

[clariden-debug]
inherits = "clariden-train"
partition = "debug"
launcher = ""
"""


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FIRECREST_PRESETS (autouse)."""
    monkeypatch.delenv(VARIABLE, raising=False)


def write(folder: Path, text: str = TRAINING) -> Path:
    path = folder / FILE_NAME
    path.write_text(text)
    return path


def get(folder: Path, name: str) -> Preset:
    presets = Presets.at_hand(folder)
    assert presets is not None
    return presets.get(name)


def connection(**settings: Any) -> Connection:
    return Connection(url="https://f", token_url="https://t", client_id="c", client_secret="s", **settings)


# --- what a preset says -----------------------------------------------------------------------------


def test_a_preset_has_what_it_inherits(tmp_path: Path) -> None:
    write(tmp_path)
    preset = get(tmp_path, "clariden-train")
    assert preset.system == "clariden"
    assert preset.fields == {
        "account": "a123",
        "partition": "normal",
        "login_shell": True,
        "modules": ("pytorch",),
        "environment": {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "8"},
        "launcher": "torchrun",
        "setup": ("ulimit -s unlimited",),
    }


def test_a_preset_may_say_which_jobs_follow(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[a]\nescalate.preempted = "wait"\nchain = {max_jobs = 3, signal = "USR1@60", done = "d", checkpoint = "c"}\n'
        '[b]\ninherits = "a"\nchain = ""\n',
    )
    preset = get(tmp_path, "a")
    assert (preset.escalate, preset.fields) == ({"preempted": "wait"}, {})
    assert preset.chain == Chain(max_jobs=3, signal="USR1@60", done="d", checkpoint="c").to_dict()
    inheriting = get(tmp_path, "b")
    assert (inheriting.escalate, inheriting.chain) == ({"preempted": "wait"}, None)
    assert inheriting.summary() == f"Preset 'b' of {path}: escalate={{'preempted': 'wait'}}."


def test_a_blank_value_takes_back_an_inherited_one(tmp_path: Path) -> None:
    write(tmp_path)
    preset = get(tmp_path, "clariden-debug")
    assert preset.fields["partition"] == "debug"
    assert "launcher" not in preset.fields


def test_the_values_of_a_job_replace_those_of_its_preset(tmp_path: Path) -> None:
    write(tmp_path)
    fields = get(tmp_path, "clariden").with_fields(
        {"command": "true", "partition": "large", "environment": {"OMP_NUM_THREADS": "4", "SEED": "1"}}
    )
    assert fields["partition"] == "large"
    assert fields["account"] == "a123"
    assert fields["environment"] == {"NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "4", "SEED": "1"}


def test_the_log_shows_values_but_no_variables(tmp_path: Path) -> None:
    path = write(tmp_path, '[train]\nsystem = "daint"\nmodules = ["a", "b"]\nenvironment = {HF_TOKEN = "hf_abcdef"}\n')
    summary = get(tmp_path, "train").summary()
    assert summary == f"Preset 'train' of {path}: system=daint, modules=[a, b], environment=[HF_TOKEN]."
    assert without_hidden_values("the token is hf_abcdef") == "the token is ***"


def test_the_log_of_a_preset_with_a_secret_in_a_line_of_shell(tmp_path: Path) -> None:
    write(tmp_path, '[t]\nsetup = "export A=hf_abcdef"\nenvironment = {HF_TOKEN = "hf_abcdef"}\n')
    assert "hf_abcdef" not in get(tmp_path, "t").summary()


def test_an_error_in_a_field_of_the_preset_names_it(tmp_path: Path) -> None:
    preset, given = get(write(tmp_path).parent, "clariden"), {"account": "mine"}
    for field, named in (("partition", True), ("account", False), ("nodes", False), ("name", False), ("chain", False)):
        with pytest.raises(InvalidJobSpec, match=f"^{field}: is wrong") as caught, preset.named_in_errors(given):
            raise InvalidJobSpec(field, "is wrong")
        assert ("(It comes from the preset 'clariden' of" in str(caught.value)) is named


# --- where presets are ------------------------------------------------------------------------------


def test_the_first_place_that_exists_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = connection(presets={"train": {"partition": "of-connection"}})
    assert Presets.find(tmp_path, stored).get("train").fields == {"partition": "of-connection"}
    assert Presets.find(None, stored).get("train").source == "the connection"
    write(tmp_path, '[train]\npartition = "of-folder"\n')
    assert Presets.find(tmp_path, stored).get("train").fields == {"partition": "of-folder"}
    other = tmp_path / "other.toml"
    other.write_text('[train]\npartition = "of-variable"\n')
    monkeypatch.setenv(VARIABLE, str(other))
    assert Presets.find(tmp_path, stored).get("train").fields == {"partition": "of-variable"}


def test_outside_of_a_flow_the_file_beside_the_script_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, '[train]\npartition = "of-script"\n')
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "submit.py"))
    assert Presets.find(None, connection()).get("train").fields == {"partition": "of-script"}


def test_in_an_interactive_session_the_file_in_the_current_folder_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, '[train]\npartition = "of-folder"\n')
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    monkeypatch.chdir(tmp_path)
    assert Presets.find(None, connection()).get("train").source == str(path)


def test_no_file_is_at_hand(tmp_path: Path) -> None:
    assert Presets.at_hand(tmp_path) is None
    assert Presets.at_hand(None) is None


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    import os

    path = write(tmp_path, '[a]\npartition = "old"\n')
    assert get(tmp_path, "a").fields == {"partition": "old"}
    write(tmp_path, '[a]\npartition = "new"\n')
    os.utime(path, ns=(0, 0))
    assert get(tmp_path, "a").fields == {"partition": "new"}


def test_the_presets_of_a_connection_are_tables() -> None:
    for wrong in ("train", {"train": "gpu"}):
        with pytest.raises(ConfigurationError, match="presets: give names and fields"):
            connection(presets=wrong)
    assert "of-connection" not in repr(connection(presets={"a": {"partition": "of-connection"}}))


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (TRAINING, "clariden-trian", "there is no preset 'clariden-trian' in FILE; did you mean 'clariden-train'?"),
        (TRAINING, "x", "there is no preset 'x' in FILE; there are clariden, clariden-train, clariden-debug"),
        ("", "x", "there is no preset 'x' in FILE; it has none"),
        ('[a]\ninherits = "b"\n[b2]\n', "a", "'a' inherits from 'b', but there is no preset 'b' in FILE"),
        ('[a]\ninherits = "a"\n', "a", "FILE: presets inherit in a circle: a → a"),
        ('[a]\ninherits="b"\n[b]\ninherits="c"\n[c]\ninherits="b"\n', "a", "FILE: .*circle: a → b → c → b"),
        ('[a]\ninherits = ["b"]\n', "a", "'a' of FILE: inherits is ['b']; give the name of a preset"),
        ('[a]\nparition = "x"\n', "a", "'a' of FILE: 'parition' is no field of a preset; did you mean 'partition'?"),
        ('[a]\nwalltime = "1"\n', "a", "'walltime' is no field of a preset; did you mean 'time_limit'?"),
        ('[a]\nsurprise = 1\n', "a", "'surprise' is no field of a preset; there are inherits, system, escalate, chain"),
        ('[a]\ncommand = "true"\n', "a", "'a' of FILE: command belongs to the job"),
        ('[a]\nworking_dir = "/x"\n', "a", "'a' of FILE: working_dir belongs to the job"),
        ('[a]\nnodes = "many"\n', "a", "'a' of FILE: nodes: "),
        ('[a]\ntime_limit = 07:32:00\n', "a", "'a' of FILE: time_limit: "),
        ('[a]\nescalate.oom = "x2"\n', "a", "'a' of FILE: escalate: 'oom' is no cause; there are out_of_memory"),
        ("[a]\nchain.max_job = 3\n", "a", "'a' of FILE: chain: 'max_job' is no field of it; did you mean 'max_jobs'?"),
        ('[a]\nmetrics = "m"\n', "a", "'a' of FILE: metrics belongs to the job"),
        ('[a]\nsystem = "../x"\n', "a", "'a' of FILE: system: "),
        ('[a]\nsystem = 3\n', "a", "'a' of FILE: system: "),
        ('[b]\nlauncher = "torch"\n[a]\ninherits = "b"\n', "a", "'b' of FILE: launcher: 'torch'; did you mean 'to"),
        ('partition = "gpu"\n', "a", "FILE: 'partition' is no preset, which is a table of fields"),
        ('[a\n', "a", "FILE is no TOML: .*line 1"),
        ('[a]\nnodes = 1\nnodes = 2\n', "a", "FILE is no TOML: .*line 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(tmp_path: Path, text: str, name: str, problem: str) -> None:
    path = write(tmp_path, text)
    pattern = re.escape(problem).replace("FILE", re.escape(str(path))).replace(r"\.\*", ".*")
    with pytest.raises(InvalidJobSpec, match=f"^preset: .*{pattern}"):
        get(tmp_path, name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("folder", "cannot be read: Is a directory"),
        (b"\xff", "is no TOML: 'utf-8'"),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes | None, problem: str
) -> None:
    path = tmp_path / "presets.toml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(InvalidJobSpec, match=f"^preset: .*{re.escape(str(path))}.* {problem}"):
        Presets.at_hand(None)


def test_a_preset_that_no_place_has(tmp_path: Path) -> None:
    message = f"there is no preset 'x' in the connection; it has none, and there is no file {tmp_path / FILE_NAME}. "
    with pytest.raises(InvalidJobSpec, match=re.escape(message)):
        Presets.find(tmp_path, connection()).get("x")
