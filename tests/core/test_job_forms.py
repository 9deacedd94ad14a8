"""Fields of a job as people and templates write them, and unknown fields."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render


def spec(**fields):
    return JobSpec(**{"working_dir": "/scratch/wd", "command": "true"} | fields)


# --- numbers ----------------------------------------------------------------------------------------

NUMBERS = ["nodes", "ntasks", "ntasks_per_node", "cpus_per_task", "gpus", "gpus_per_node"]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("given", ["2.0", 2.0, " 2 ", "2.", Fraction(2)])
def test_a_whole_number_that_a_template_computed(field, given):
    assert getattr(spec(**{field: given}), field) == 2
    assert type(getattr(spec(**{field: given}), field)) is int


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("given", ["2.5", 2.5, math.nan, math.inf, "2,0", True, "two"])
def test_what_is_no_whole_number(field, given):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        spec(**{field: given})


@pytest.mark.parametrize(
    ("field", "given", "same"),
    [("memory", 2048.0, "2048M"), ("memory", "2048.0", "2048M"), ("time_limit", 5.0, "00:05:00"),
     ("time_limit", "5.0", "00:05:00"), ("array", 3.0, "3")],
)  # fmt: skip
def test_amounts_that_a_template_computed(field, given, same):
    assert getattr(spec(**{field: given}), field) == same


@pytest.mark.parametrize(("field", "given"), [("memory", 1.5), ("memory", "1.5G"), ("time_limit", 7.5)])
def test_no_part_of_a_unit_is_lost(field, given):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        spec(**{field: given})


# --- what counts as not given -------------------------------------------------------------------------


@pytest.mark.parametrize("blank", [None, "", "None", "  ", "\n"])
def test_a_template_that_yields_nothing_is_absent(blank):
    fields = {"working_dir": "/wd", "command": "true", "nodes": 2}
    names = ["script", "script_path", "partition", "name", "gpus", "time_limit", "environment", "directives", "requeue"]
    assert JobSpec.from_mapping(fields | dict.fromkeys(names, blank)) == JobSpec(**fields)


def test_a_text_that_holds_none_is_a_text():
    job = JobSpec.from_mapping({"working_dir": "/wd", "command": "echo None", "environment": {"A": "None"}})
    assert (job.command, job.environment) == ("echo None", {"A": "None"})


def test_the_working_directory_may_come_later():
    job = JobSpec(command="true", nodes=2)
    assert job.to_mapping() == {"command": "true", "nodes": 2}
    for scheduler in ("slurm", "pbs"):
        with pytest.raises(InvalidJobSpec, match=r"^working_dir: missing"):
            render(job, scheduler)
    with pytest.raises(InvalidJobSpec, match=r"^working_dir: missing"):
        JobSpec.from_mapping(job.to_mapping())


# --- Slurm's forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "given", "option"),
    [
        ("nodes", "2,4,8", "--nodes=2,4,8"),
        ("nodes", " 2, 4,8", "--nodes=2,4,8"),
        ("nodes", "1-15:4", "--nodes=1-15:4"),
        ("nodes", "1-3,8", "--nodes=1-3,8"),
        ("nodes", "1k", "--nodes=1024"),
        ("nodes", "1-2k", "--nodes=1-2048"),
        ("gpus", "a100:2,v100:1", "--gpus=a100:2,v100:1"),
        ("gpus_per_node", "a100:2, v100:1", "--gpus-per-node=a100:2,v100:1"),
    ],
)
def test_a_valid_form_of_slurm(field, given, option):
    job = spec(**{field: given})
    assert f"#SBATCH {option}\n" in render(job)
    assert JobSpec.from_mapping(job.to_mapping()) == job
    with pytest.raises(InvalidJobSpec, match=f"^{field}: .*PBS takes"):
        render(spec(**{field: given if given != "1k" else "1-2"}), "pbs")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("nodes", "2,"), ("nodes", "0,2"), ("nodes", "8-2:2"), ("nodes", "1-"), ("nodes", "2-4-8"), ("nodes", "1-5:0"),
     ("gpus", "a100:2,1"), ("gpus", "1,2"), ("gpus", "a100:2,"), ("gpus", "a100:x")],
)  # fmt: skip
def test_what_sbatch_would_refuse(field, wrong):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        spec(**{field: wrong})


def test_gpus_of_two_types_are_counted_together():
    spec(nodes=2, gpus="a100:4,v100:2", gpus_per_node="a100:2,v100:1")
    with pytest.raises(InvalidJobSpec, match=r"^gpus: 5 in all"):
        spec(nodes=2, gpus="a100:4,v100:1", gpus_per_node="a100:2,v100:1")


# --- scripts --------------------------------------------------------------------------------------------

TRIPLE_QUOTED = """
    #!/bin/bash
    #SBATCH --nodes=2
    if true; then
        echo indented
    fi
    cat <<EOF
at the margin
EOF
"""


@pytest.mark.parametrize("before", ["", "\n\n", "\ufeff", "   \n"])
def test_a_script_in_triple_quotes(before):
    assert spec(command=None, script=before + TRIPLE_QUOTED).script == (
        "#!/bin/bash\n#SBATCH --nodes=2\nif true; then\n    echo indented\nfi\ncat <<EOF\nat the margin\nEOF\n"
    )


@pytest.mark.parametrize("margin", ["    ", "\t"])
@pytest.mark.parametrize("blank", ["", "\n", "   \n"])
@pytest.mark.parametrize("heading", ["#SBATCH --nodes=2\n", "#PBS -l select=2\n", "", "set -e\n"])
def test_a_script_that_begins_right_behind_the_quotes(heading, blank, margin):
    text = f"{heading}if true; then\n    echo indented\nfi\ncat <<EOF\nhere\nEOF\n"
    indented = "".join(margin + line for line in text.splitlines(keepends=True))
    script = spec(command=None, script=f"#!/bin/bash\n{blank}{indented}{margin}").script
    assert script == f"#!/bin/bash\n{blank.removeprefix(margin)}{text}"


def test_a_here_document_at_the_margin_below_indented_directives():
    script = "#!/bin/bash\n    #SBATCH --nodes=2\n    cat <<EOF\nat the margin\nEOF\n"
    at_the_margin = "#!/bin/bash\n#SBATCH --nodes=2\ncat <<EOF\nat the margin\nEOF\n"
    assert spec(command=None, script=script).script == at_the_margin


@pytest.mark.parametrize(
    "script",
    [
        "#!/usr/bin/env python3\nif True:\n    print('x')\n",
        "#!/bin/bash\n   # a title\ncat <<EOF\na:\n   b: 1\nEOF\n",
        "#!/bin/bash",
        "#!/bin/bash\n\n",
    ],
)
def test_a_script_that_begins_in_its_first_line_is_kept(script):
    assert spec(command=None, script=script).script == script


@pytest.mark.parametrize("name", ["job.sh", "scripts/run.job", "/users/me/run.sbatch", "~/run.sh"])
def test_a_file_in_the_place_of_a_script(name):
    with pytest.raises(InvalidJobSpec, match=r"^script: .* name of a file.*script_path"):
        spec(command=None, script=name)


# --- unknown fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("env", "'environment'"),
        ("env_vars", "'environment'"),
        ("cpus", "'cpus_per_task'"),
        ("cores", "'cpus_per_task'"),
        ("queue", "'partition'"),
        ("project", "'account'"),
        ("time", "'time_limit'"),
        ("walltime", "'time_limit'"),
        ("mem", "'memory'"),
        ("job_name", "'name'"),
        ("jobName", "'name'"),
        ("output", "'stdout'"),
        ("chdir", "'working_dir'"),
        ("workingDirectory", "'working_dir'"),
        ("workdir", "'working_dir'"),
        ("depends_on", "'dependency'"),
        ("image", "'container'"),
        ("time_limt", "'time_limit'"),
        ("node", "'nodes'"),
        ("NODES", "'nodes'"),
        ("--nodes", "'nodes'"),
        ("comment", "directives=['--comment=…']"),
        ("mem_per_cpu", "directives=['--mem-per-cpu=…']"),
        ("mem-per-cpu", "directives=['--mem-per-cpu=…']"),
        ("exclusive", "directives=['--exclusive']"),
        ("gres", "directives=['--gres=…']"),
        ("mail_type", "directives=['--mail-type=…']"),
        ("zzzz", "the fields are working_dir, script"),
    ],
)
def test_an_unknown_field_is_refused_with_what_is_meant(key, hint):
    with pytest.raises(InvalidJobSpec) as refusal:
        JobSpec.from_mapping({"working_dir": "/wd", "command": "true", key: "x"})
    assert str(refusal.value).startswith(f"{key}: a job has no such field; ")
    assert hint in str(refusal.value)
    assert refusal.value.field == key


def test_every_hint_names_a_field_or_a_directive_that_is_taken():
    from firecrest_core.spec import field_hints

    for field in field_hints._SYNONYMS.values():
        assert field in JobSpec.__dataclass_fields__
    for option in field_hints._DIRECTIVES:
        spec(directives=[f"--{option.replace('_', '-')}=x"])
