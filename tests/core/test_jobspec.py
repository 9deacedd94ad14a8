from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.indices import Indices
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.output_paths import completed_path, output_paths
from firecrest_core.spec.render import render, submit_request


def spec(**fields):
    fields = {"working_dir": "/scratch/wd", **fields}
    if not {"script", "script_path", "command"} & set(fields):
        fields["command"] = "true"
    return JobSpec(**fields)


# --- every field, in Slurm's and in PBS's words -------------------------------------------------------

REFUSED = None

FIELDS = [
    # field, value, the lines for Slurm, the lines for PBS (or their refusal)
    ("name", "relax", ["--job-name=relax"], ["-N relax"]),
    ("name", "relax Si 1", ["--job-name='relax Si 1'"], REFUSED),
    ("name", "1st", ["--job-name=1st"], REFUSED),
    ("account", "proj1", ["--account=proj1"], ["-A proj1"]),
    ("partition", "debug", ["--partition=debug"], ["-q debug"]),
    ("partition", "a,b", ["--partition=a,b"], ["-q a,b"]),
    ("qos", "high", ["--qos=high"], REFUSED),
    ("reservation", "R12", ["--reservation=R12"], ["-q R12"]),
    ("constraint", "gpu", ["--constraint=gpu"], REFUSED),
    ("constraint", "[a|b]&c*2", ["--constraint='[a|b]&c*2'"], REFUSED),
    ("nodes", 2, ["--nodes=2"], ["-l select=2:ncpus=1:mpiprocs=1"]),
    ("nodes", "2", ["--nodes=2"], ["-l select=2:ncpus=1:mpiprocs=1"]),
    ("nodes", "2-4", ["--nodes=2-4"], REFUSED),
    ("ntasks", 8, ["--ntasks=8"], ["-l select=1:ncpus=8:mpiprocs=8"]),
    ("ntasks_per_node", 4, ["--ntasks-per-node=4"], ["-l select=1:ncpus=4:mpiprocs=4"]),
    ("cpus_per_task", 3, ["--cpus-per-task=3"], ["-l select=1:ncpus=3:mpiprocs=1"]),
    ("gpus", 2, ["--gpus=2"], ["-l select=1:ncpus=1:mpiprocs=1:ngpus=2"]),
    ("gpus", 0, ["--gpus=0"], ["-l select=1:ncpus=1:mpiprocs=1"]),
    ("gpus", "a100:2", ["--gpus=a100:2"], REFUSED),
    ("gpus_per_node", 4, ["--gpus-per-node=4"], ["-l select=1:ncpus=1:mpiprocs=1:ngpus=4"]),
    ("memory", "4G", ["--mem=4G"], ["-l select=1:ncpus=1:mpiprocs=1:mem=4gb"]),
    ("memory", 500, ["--mem=500M"], ["-l select=1:ncpus=1:mpiprocs=1:mem=500mb"]),
    ("memory", 0, ["--mem=0M"], REFUSED),
    ("time_limit", "10:00", ["--time=00:10:00"], ["-l walltime=00:10:00"]),
    ("time_limit", timedelta(days=2), ["--time=2-00:00:00"], ["-l walltime=48:00:00"]),
    ("time_limit", 90, ["--time=01:30:00"], ["-l walltime=01:30:00"]),
    ("time_limit", "UNLIMITED", ["--time=UNLIMITED"], REFUSED),
    ("array", "0-99%10", ["--array=0-99%10"], ["-J 0-99%10"]),
    ("array", "1,2,9", ["--array=1,2,9"], REFUSED),
    ("dependency", "afterok:12:13", ["--dependency=afterok:12:13"], ["-W depend=afterok:12:13"]),
    ("dependency", {"afterok": [12, "13"], "afterany": 14}, ["--dependency=afterok:12:13,afterany:14"],
     ["-W depend=afterok:12:13,afterany:14"]),
    ("dependency", "afterok:1?afterok:2", ["--dependency=afterok:1?afterok:2"], REFUSED),
    ("dependency", {"singleton": []}, ["--dependency=singleton"], REFUSED),
    ("dependency", "after:12+5", ["--dependency=after:12+5"], REFUSED),
    ("signal", "B:USR1@60", ["--signal=B:USR1@60"], REFUSED),
    ("stdout", "logs/my out.txt", ["--output='logs/my out.txt'"], ["-o 'logs/my out.txt'"]),
    ("stdout", "o-%j", ["--output=o-%j"], REFUSED),
    ("stderr", "/dev/null", ["--error=/dev/null"], ["-e /dev/null"]),
    ("stderr", "e-%j", ["--error=e-%j"], REFUSED),
    ("uenv", "prgenv-gnu/24.11:v1", ["--uenv=prgenv-gnu/24.11:v1"], REFUSED),
    ("uenv", "a/1:v1@x%gh200 --view=default,modules", ["--uenv=a/1:v1@x%gh200 --view=default,modules"], REFUSED),
    ("container", "pytorch", ["--environment=pytorch"], REFUSED),
    ("container", "/users/me/my edf.toml", ["--environment='/users/me/my edf.toml'"], REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "lines", "_"), FIELDS)
def test_a_field_for_slurm(field, value, lines, _):
    after = field in ("stdout", "stderr", "uenv", "container")
    rendered = [f"#SBATCH {line}" for line in lines]
    chdir = ["#SBATCH --chdir=/scratch/wd"]
    expected = chdir + rendered if after else rendered + chdir
    assert render(spec(**{field: value})).split("\n") == [
        "#!/bin/bash", *expected, "#SBATCH --no-requeue", "true", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "_", "lines"), FIELDS)
def test_a_field_for_pbs(field, value, _, lines):
    job = spec(**{field: value})
    if lines is REFUSED:
        with pytest.raises(InvalidJobSpec, match=f"^{field}: ") as refusal:
            render(job, "pbs")
        assert refusal.value.field == field
    else:
        assert render(job, "pbs").split("\n") == [
            "#!/bin/bash", *(f"#PBS {line}" for line in lines), f"#PBS -r {'y' if field == 'array' else 'n'}",
            "cd /scratch/wd || exit 1", "true", "",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "chunk"),
    [
        ({"nodes": 2, "ntasks": 8, "cpus_per_task": 4}, "2:ncpus=16:mpiprocs=4"),
        ({"ntasks": 8, "ntasks_per_node": 4}, "2:ncpus=4:mpiprocs=4"),
        ({"nodes": 2, "gpus": 8, "memory": "64G"}, "2:ncpus=1:mpiprocs=1:ngpus=4:mem=64gb"),
        ({"nodes": 2, "gpus_per_node": 4}, "2:ncpus=1:mpiprocs=1:ngpus=4"),
    ],
)
def test_pbs_shares_evenly_among_chunks(fields, chunk):
    assert f"#PBS -l select={chunk}\n" in render(spec(**fields), "pbs")


@pytest.mark.parametrize(("field", "fields"), [
    ("ntasks", {"nodes": 3, "ntasks": 8}),
    ("gpus", {"nodes": 3, "gpus": 4}),
    ("reservation", {"reservation": "R1", "partition": "q"}),
])  # fmt: skip
def test_what_pbs_cannot_share(field, fields):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        render(spec(**fields), "pbs")


@pytest.mark.parametrize(
    ("own", "requeue", "slurm"),
    [
        ("", None, "--no-requeue"),
        ("", False, "--no-requeue"),
        ("", True, "--requeue"),
        ("#SBATCH --requeue\n", None, "--requeue"),
        ("#SBATCH --requeue\n", False, "--no-requeue"),
        ("#SBATCH --no-requeue\n", True, "--requeue"),
        ("#SBATCH --requeue\n#SBATCH --no-requeue\n", None, "--no-requeue"),
    ],
)
def test_a_job_is_requeued_only_if_the_user_asks(own, requeue, slurm):
    rendered = render(spec(script=f"#!/bin/bash\n{own}true\n", requeue=requeue))
    assert [line for line in rendered.split("\n") if "requeue" in line][-1] == f"#SBATCH {slurm}"


def test_requeueing_in_pbs():
    assert "#PBS -r y\n" in render(spec(requeue=True), "pbs")
    assert "#PBS -r y\ncd" in render(spec(script="#!/bin/sh\n#PBS -r y\ntrue\n"), "pbs")


def test_raw_directives():
    job = spec(directives=["--exclusive", "#SBATCH --gres=craynetwork:0"])
    assert "#SBATCH --exclusive\n#SBATCH --gres=craynetwork:0\ntrue" in render(job)
    with pytest.raises(InvalidJobSpec, match=r"^directives: .*another scheduler"):
        render(job, "pbs")
    assert "#PBS -l place=excl\ncd" in render(spec(directives="-l place=excl"), "pbs")


def test_an_unknown_scheduler():
    with pytest.raises(ValueError, match="lsf"):
        render(spec(), "lsf")


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("working_dir", "/it's"),
        ("working_dir", " "),
        ("working_dir", " /wd"),
        ("working_dir", "/wd "),
        ("script_path", "/run.sh "),
        ("stdout", " out.txt"),
        ("script", "echo no interpreter\n"),
        ("script", "#!\necho\n"),
        ("script", ""),
        ("script", "\necho\n#!/bin/bash\n"),
        ("script", "#!/bin/bash\n\0"),
        ("script", b"#!/bin/bash\n"),
        ("script", "#!/bin/bash\n#SBATCH --array=3-1\n"),
        ("script", "#!/bin/bash\n#SBATCH -J a|b\n"),
        ("script_path", "run\n.sh"),
        ("command", ""),
        ("command", []),
        ("command", ["echo", 1]),
        ("command", "a\0b"),
        ("command", 7),
        ("name", "a|b"),
        ("name", "a\nb"),
        ("name", "a/b"),
        ("name", "it's"),
        ("name", 'a"b'),
        ("name", "a,b"),
        ("name", " a"),
        ("name", "x" * 231),
        ("name", 7),
        ("account", "a b"),
        ("account", "a\nb"),
        ("partition", "a'b"),
        ("qos", ""),
        ("reservation", "a b"),
        ("constraint", "a\tb"),
        ("nodes", 0),
        ("nodes", -1),
        ("nodes", "4-2"),
        ("nodes", "many"),
        ("nodes", 1.5),
        ("nodes", True),
        ("ntasks", -1),
        ("ntasks_per_node", 0),
        ("cpus_per_task", "two"),
        ("gpus", -1),
        ("gpus", "a100"),
        ("gpus_per_node", "-2"),
        ("memory", "4X"),
        ("memory", -1),
        ("time_limit", "30m"),
        ("time_limit", -5),
        ("time_limit", 0),
        ("array", "3-1"),
        ("array", "a-b"),
        ("array", True),
        ("dependency", "after"),
        ("dependency", "afterok"),
        ("dependency", "afterok:abc"),
        ("dependency", "whenever:12"),
        ("dependency", "afterok:1,afterok:2?afterok:3"),
        ("dependency", 12),
        ("environment", {"1A": "x"}),
        ("environment", {"A B": "x"}),
        ("environment", {"A": None}),
        ("environment", {"A": "x\0"}),
        ("environment", {"UID": "0"}),
        ("environment", "A=1"),
        ("environment", {"A": "x" * 128 * 1024}),
        ("uenv", "a b c"),
        ("uenv", "a --view=x --foo=y"),
        ("container", "a\nb"),
        ("signal", "FOO@60"),
        ("signal", "USR1@70000"),
        ("signal", "X:USR1"),
        ("directives", ["exclusive"]),
        ("directives", ["--comment=a\n#SBATCH --nodes=9"]),
        ("directives", ["--job-name=x"]),
        ("directives", ["#SBATCH -a 0-3"]),
        ("directives", ["#PBS -N x"]),
        ("directives", ["--no-requeue"]),
        ("directives", [7]),
        ("directives", 7),
        ("stdout", "a\nb"),
        ("stdout", "it's.out"),
        ("stderr", 'a"b'),
        ("requeue", "maybe"),
        ("requeue", 1),
    ],
)
def test_a_wrong_value_is_refused_with_the_fields_name(field, wrong):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: ") as refusal:
        spec(**{field: wrong})
    assert refusal.value.field == field
    assert refusal.value.user_error
    assert not refusal.value.retryable


@pytest.mark.parametrize(
    "given",
    [
        {"signal": "USR1@7200", "time_limit": 60},
        {"signal": "B:USR1@60", "time_limit": "0:01:00"},
        {"signal": "USR1@7200", "script": "#!/bin/sh\n#SBATCH --time=60\n"},
    ],
)
def test_a_signal_that_would_come_at_once_is_refused(given) -> None:
    with pytest.raises(InvalidJobSpec, match="^signal: .* seconds before the end of .* seconds, so at once"):
        spec(**given)


@pytest.mark.parametrize("given", [{"time_limit": 121}, {"time_limit": "UNLIMITED"}, {}])
def test_a_signal_that_comes_later(given) -> None:
    assert spec(signal="USR1@7200", **given).signal == "USR1@7200"


def test_a_job_name_is_refused_with_the_characters_that_it_may_not_hold():
    with pytest.raises(InvalidJobSpec) as refusal:
        spec(name="a,b|c")
    assert "'a,b|c' holds ',' and '|'; a job name may hold none of | , / " in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("script", {"command": None}),
        ("command", {"script": "#!/bin/sh\n", "command": "true"}),
        ("script_path", {"script": "#!/bin/sh\n", "script_path": "/a"}),
        ("gpus", {"nodes": 2, "gpus": 4, "gpus_per_node": 4}),
        ("gpus", {"gpus": 6, "gpus_per_node": 4}),
        ("gpus", {"gpus": 6, "gpus_per_node": 0}),
        ("gpus", {"nodes": 2, "gpus": "a100:4", "gpus_per_node": "a100:4"}),
        ("ntasks", {"nodes": 2, "ntasks": 9, "ntasks_per_node": 4}),
    ],
)
def test_fields_that_contradict_each_other(field, fields):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        spec(**fields)


def test_fields_that_agree():
    spec(nodes=2, gpus=8, gpus_per_node=4, ntasks=8, ntasks_per_node=4)
    spec(nodes="2-4", gpus=8, gpus_per_node=4)


def test_no_value_of_the_environment_is_in_a_message():
    with pytest.raises(InvalidJobSpec) as refusal:
        spec(environment={"TOKEN": "hunter2\0"})
    assert "hunter2" not in str(refusal.value)


# --- forms ------------------------------------------------------------------------------------------


def test_from_mapping_takes_what_templates_yield():
    job = JobSpec.from_mapping(
        {"working_dir": "/wd/", "command": "true", "nodes": "2", "gpus": "0", "requeue": "True", "account": "",
         "qos": None, "dependency": "afterok: 12", "environment": {"OMP_NUM_THREADS": 8}}
    )  # fmt: skip
    assert (job.working_dir, job.nodes, job.gpus, job.requeue, job.account) == ("/wd", 2, 0, True, None)
    assert job.dependency == "afterok:12"
    assert job.environment == {"OMP_NUM_THREADS": "8"}


@pytest.mark.parametrize(
    ("key", "hint"), [("time_limits", "time_limit"), ("partitions", "partition"), ("zzz", "script")]
)
def test_from_mapping_refuses_unknown_keys_with_a_suggestion(key, hint):
    with pytest.raises(InvalidJobSpec, match=rf"^{key}: .*{hint}"):
        JobSpec.from_mapping({"working_dir": "/wd", "command": "true", key: "x"})


def test_from_mapping_needs_a_working_directory():
    with pytest.raises(InvalidJobSpec, match=r"^working_dir: "):
        JobSpec.from_mapping({"command": "true"})


def test_a_specification_travels_as_json_and_as_pickle():
    job = spec(
        command=["echo", "a b"], nodes=2, memory=500, time_limit=timedelta(hours=30), dependency={"afterok": [1]},
        environment={"A": "1,2"}, directives=["--exclusive"], requeue=False, array=7,
    )  # fmt: skip
    assert JobSpec.from_mapping(json.loads(json.dumps(job.to_mapping()))) == job
    assert pickle.loads(pickle.dumps(job)) == job
    assert hash(job) == hash(JobSpec.from_mapping(job.to_mapping()))
    assert job.time_limit == "1-06:00:00"


def test_line_ends_of_dos_are_converted():
    rendered = render(spec(script="#!/bin/bash\r\n#SBATCH -J a\r\necho\r\n"))
    assert "\r" not in rendered
    assert rendered.startswith("#!/bin/bash\n#SBATCH -J a\n#SBATCH --chdir")


def test_importing_costs_no_third_party_package():
    code = (
        "import sys; before = set(sys.modules); import firecrest_core.spec.jobspec; "
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "['firecrest_core']"


# --- the script ---------------------------------------------------------------------------------------

OURS = "#SBATCH --nodes=2\n#SBATCH --chdir=/scratch/wd\n#SBATCH --no-requeue\n"


@pytest.mark.parametrize(
    ("script", "rendered"),
    [
        ("#!/bin/bash\necho\n", f"#!/bin/bash\n{OURS}echo\n"),
        ("#!/bin/bash", f"#!/bin/bash\n{OURS}"),
        # Behind the script's own lines: sbatch lets the later one win.
        ("#!/bin/sh\n#SBATCH -N 9\n\n# why\n#SBATCH -n 3\n# end\necho\n",
         f"#!/bin/sh\n#SBATCH -N 9\n\n# why\n#SBATCH -n 3\n{OURS}# end\necho\n"),
        # Behind the first command sbatch reads nothing more.
        ("#!/bin/sh\necho\n#SBATCH -N 9\n", f"#!/bin/sh\n{OURS}echo\n#SBATCH -N 9\n"),
        # A heterogeneous job: ours are for the first component.
        ("#!/bin/sh\n#SBATCH -n 3\n#SBATCH hetjob\n#SBATCH -n 4\necho\n",
         f"#!/bin/sh\n#SBATCH -n 3\n{OURS}#SBATCH hetjob\n#SBATCH -n 4\necho\n"),
        ("#!/bin/sh\n#SBATCH hetjob\n#SBATCH -n 4\necho\n",
         f"#!/bin/sh\n{OURS}#SBATCH hetjob\n#SBATCH -n 4\necho\n"),
        ("#!/usr/bin/env python3\n#SBATCH -n 3\nprint()\n", f"#!/usr/bin/env python3\n#SBATCH -n 3\n{OURS}print()\n"),
        ("#!/bin/sh\necho 'a\x0cb\u2028c'\n", f"#!/bin/sh\n{OURS}echo 'a\x0cb\u2028c'\n"),
    ],
)  # fmt: skip
def test_directives_stand_behind_the_scripts_own(script, rendered):
    assert render(spec(script=script, nodes=2)) == rendered


def test_exports_stand_behind_all_directives():
    job = spec(script="#!/bin/bash\n#SBATCH hetjob\n#SBATCH -n 4\necho\n", environment={"A": "it's, $x"})
    assert render(job, prologue=["ln -s a b"]).endswith(
        "#SBATCH hetjob\n#SBATCH -n 4\nln -s a b\nexport A='it'\"'\"'s, $x'\necho\n"
    )


def test_pbs_resources_stand_before_the_scripts_own():
    job = spec(script="#!/bin/bash\n#PBS -l walltime=1:00:00\n#PBS -N a\necho\n", time_limit="10:00", name="b")
    assert render(job, "pbs") == (
        "#!/bin/bash\n#PBS -l walltime=00:10:00\n#PBS -l walltime=1:00:00\n#PBS -N a\n#PBS -N b\n#PBS -r n\n"
        "cd /scratch/wd || exit 1\necho\n"
    )


def run(script, path, **options):
    file = path / "job"
    file.write_bytes(script.encode())
    return subprocess.run(["bash", str(file)], capture_output=True, timeout=60, **options)


ENVIRONMENTS = st.dictionaries(
    st.from_regex(r"X[A-Za-z0-9_]{0,8}", fullmatch=True),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    min_size=1,
    max_size=4,
)
PRINT = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k[0] == 'X'}))"


@settings(max_examples=60, deadline=None)
@given(environment=ENVIRONMENTS, shell=st.sampled_from(["#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env -S bash -e"]))
def test_any_environment_arrives_unchanged_in_a_shell(environment, shell, tmp_path_factory):
    script = f'{shell}\n#SBATCH -n 1\n"{sys.executable}" -c "{PRINT}"\n'
    check_arrival(script, environment, tmp_path_factory)


@settings(max_examples=30, deadline=None)
@given(environment=ENVIRONMENTS)
def test_any_environment_arrives_unchanged_in_a_wrapped_script(environment, tmp_path_factory):
    check_arrival(f"#!{sys.executable}\n{PRINT}\n", environment, tmp_path_factory)


def check_arrival(script, environment, tmp_path_factory):
    rendered = render(spec(script=script, environment=environment))
    # What sbatch refuses, wherever it stands.
    assert "\r\n" not in rendered
    path = tmp_path_factory.mktemp("job")
    (path / "job").write_bytes(rendered.encode())
    assert subprocess.run(["bash", "-n", str(path / "job")], check=False).returncode == 0
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    ran = run(rendered, path, env=clean)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == environment


def test_dash_reads_the_exports_too(tmp_path):
    job = spec(script='#!/bin/sh\nprintf %s "$A"\n', environment={"A": "1\r\n'2'\t$(3)\\n"})
    file = tmp_path / "job"
    file.write_bytes(render(job).encode())
    ran = subprocess.run(["sh", str(file)], capture_output=True, check=True)
    assert ran.stdout == b"1\r\n'2'\t$(3)\\n"


def test_a_wrapped_script_keeps_exit_code_text_and_nothing_else(tmp_path):
    script = (
        f"#!{sys.executable}\n#SBATCH -n 2\n# a comment\nimport os, sys\n"
        "text = '''\nEND_OF_SCRIPT\n$HOME `x` \\\\\n'''\nprint(os.environ['A'], repr(text), sys.path[0])\nsys.exit(7)\n"
    )
    rendered = render(spec(script=script, environment={"A": "1"}))
    assert rendered.startswith("#!/bin/bash\n#SBATCH -n 2\n#SBATCH --chdir=/scratch/wd\n")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    ran = run(rendered, tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, text=True)
    assert ran.returncode == 7
    assert ran.stdout.startswith("1 ")
    assert "END_OF_SCRIPT\\n$HOME `x` \\\\\\n" in ran.stdout
    assert str(temporary) in ran.stdout
    assert list(temporary.iterdir()) == []


def test_a_signal_reaches_a_wrapped_program(tmp_path):
    script = (
        f"#!{sys.executable} -u\nimport signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\nprint('ready')\nwhile True: signal.pause()\n"
    )
    file = tmp_path / "job"
    file.write_text(render(spec(script=script, environment={"A": "1"})))
    with subprocess.Popen(["bash", str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(10)
        assert process.wait(timeout=30) == 9


@pytest.mark.parametrize(("line", "shell"), [
    ("#!/bin/bash -l", True), ("#! /usr/bin/env bash", True), ("#!/usr/bin/env -S A=1 zsh", True),
    ("#!/bin/csh", False), ("#!/usr/bin/env python3", False), ("#!/usr/bin/fish", False),
])  # fmt: skip
def test_which_scripts_are_wrapped(line, shell):
    rendered = render(spec(script=f"{line}\ntrue\n", environment={"A": "1"}))
    assert rendered.startswith(f"{line}\n" if shell else "#!/bin/bash\n")
    assert ("mktemp" in rendered) is not shell


def test_a_command_is_quoted_as_words_and_a_line_is_left_alone(tmp_path):
    assert run(render(spec(command=["printf", "%s|", "a b", "$HOME", "it's"])), tmp_path).stdout == b"a b|$HOME|it's|"
    assert run(render(spec(command="echo a | tr a b; exit 3")), tmp_path).returncode == 3


# --- the request ----------------------------------------------------------------------------------------


def test_request_repeats_what_firecrest_puts_on_the_command_line():
    job = spec(name="n", account="a", partition="p", reservation="r", constraint="c", stdout="o", stderr="e",
               nodes=2, environment={"A": "1,2"})  # fmt: skip
    assert submit_request(job).to_json() == {
        "job": {
            "name": "n", "account": "a", "partition": "p", "reservation": "r", "constraints": "c",
            "standardOutput": "o", "standardError": "e", "workingDirectory": "/scratch/wd", "script": render(job),
        }
    }  # fmt: skip
    assert submit_request(job, prologue=["x=1"]).script == render(job, prologue=["x=1"])


def test_request_of_a_script_path():
    job = spec(script_path="/users/me/run.sh", name="n", environment={"A": "x y"}, constraint="gpu")
    assert submit_request(job) == SubmitRequest(
        name="n", working_directory="/scratch/wd", script_path="/users/me/run.sh", env={"A": "x y"}, constraints="gpu"
    )
    assert submit_request(job).to_json()["job"]["scriptPath"] == "/users/me/run.sh"
    assert "env" not in submit_request(spec(script_path="/a")).to_json()["job"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodes", 2), ("ntasks", 2), ("gpus", 1), ("memory", "1G"), ("time_limit", 5), ("array", "0-3"), ("qos", "q"),
        ("dependency", "afterok:1"), ("uenv", "a/1:v1"), ("container", "a"), ("signal", "USR1"), ("requeue", True),
        ("directives", ["--exclusive"]), ("environment", {"A": "1,2"}), ("environment", {"A": "it's"}),
    ],
)  # fmt: skip
def test_what_a_script_path_cannot_carry(field, value):
    with pytest.raises(InvalidJobSpec, match=f"^{field}: "):
        submit_request(spec(script_path="/a", **{field: value}))


def test_what_a_script_path_cannot_carry_in_pbs():
    with pytest.raises(InvalidJobSpec, match=r"^constraint: .*script's text"):
        submit_request(spec(script_path="/a", constraint="c"), "pbs")
    with pytest.raises(InvalidJobSpec, match=r"^reservation: "):
        submit_request(spec(script_path="/a", reservation="r", partition="p"), "pbs")
    with pytest.raises(InvalidJobSpec, match=r"^script_path: "):
        render(spec(script_path="/a"))
    assert submit_request(spec(script_path="/a", partition="p"), "pbs").partition == "p"


# --- arrays and outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "indices"),
    [
        ("", None),
        ("#SBATCH --array=0-2", "0-2"),
        ("#SBATCH --array 0-2", "0-2"),
        ("#SBATCH -a0-2", "0-2"),
        ("#SBATCH -N 2 -a 0-2 # three", "0-2"),
        ("#SBATCH --arr=0-2%1", "0-2"),
        ("#SBATCH -a 0-2\n#SBATCH -a 7", "7"),
        ("#PBS -J 0-2", "0-2"),
        ("##SBATCH -a 0-2", None),
        (" #SBATCH -a 0-2", None),
        ("echo\n#SBATCH -a 0-2", None),
        ("#SBATCH --comment='-a 0-2'", None),
        ("#SBATCH --comment=it's\n#SBATCH -a 4", "4"),
        ("#SBATCH hetjob\n#SBATCH -a 0-2", None),
    ],
)
def test_array_indices_from_the_scripts_own_lines(lines, indices):
    expected = None if indices is None else Indices.parse(indices)
    assert spec(script=f"#!/bin/bash\n{lines}\ntrue\n").array_indices == expected


def test_array_indices_from_the_field():
    assert spec(array="0-4:2", script="#!/bin/bash\n#SBATCH -a 0-9\n").array_indices == Indices.parse("0-4:2")
    assert spec(script_path="/a").array_indices is None


@pytest.mark.parametrize(
    ("fields", "asked", "paths"),
    [
        ({}, {}, ("slurm-12.out", "slurm-12.out")),
        ({"array": "0-3"}, {}, ("slurm-12_%a.out", "slurm-12_%a.out")),
        ({"array": "0-3"}, {"index": 2}, ("slurm-12_2.out", "slurm-12_2.out")),
        ({"stdout": "/a/%x.%j"}, {}, ("/a/sbatch.12", "/a/sbatch.12")),
        ({"stdout": "o", "stderr": "%x.%5j.%A", "name": "n"}, {}, ("o", "n.00012.12")),
        ({"stderr": "e"}, {}, ("slurm-12.out", "e")),
        ({"stdout": "%u-%%"}, {"user": "ann"}, ("ann-%", "ann-%")),
        ({"stdout": "%u"}, {}, None),
        ({"stdout": "%N"}, {"user": "ann"}, ("%N", "%N")),
        ({"stdout": "%N.%u"}, {}, None),
        ({"stdout": "%j", "array": "0-3"}, {"index": 2}, (None, None)),
        ({"stdout": "%b", "stderr": "e", "array": "0-3"}, {"index": 2}, (None, "e")),
        ({"stdout": "%j.%u", "array": "0-3"}, {}, (None, None)),
        ({"stdout": "%h.%q"}, {}, ("%h.%q", "%h.%q")),  # no symbols of Slurm's
        ({"stdout": "%a"}, {}, ("4294967294",) * 2),
        ({"stdout": "%n%t%s%J"}, {}, ("00batch12",) * 2),
        ({"stdout": r"b\%j"}, {}, ("b%j", "b%j")),
        ({"stdout": "%3a", "array": "0-3"}, {"index": 2}, ("002", "002")),
        ({"stdout": "%3a", "array": "0-3"}, {}, ("%3a", "%3a")),
        ({"script": "#!/bin/sh\n#SBATCH -J n --out=%x.o\n#SBATCH -e %x.e\n"}, {}, ("n.o", "n.e")),
        ({"script": "#!/bin/sh\n#SBATCH -o o -e e\n", "stdout": "mine"}, {}, ("mine", "e")),
        ({"script_path": "/a"}, {}, None),
        ({"script_path": "/a", "stdout": "o"}, {}, None),
        ({"script_path": "/a", "stdout": "o", "stderr": "e"}, {}, ("o", "e")),
    ],
)
def test_output_paths_of_slurm(fields, asked, paths):
    absolute = paths and tuple(path and (path if path.startswith("/") else f"/scratch/wd/{path}") for path in paths)
    assert output_paths(spec(**fields), "12", **asked) == absolute


@pytest.mark.parametrize(
    ("path", "nodes", "is_array", "complete"),
    [
        ("/o", "nid001", False, "/o"),
        (None, "nid001", False, None),
        ("/%N-%8N.o", "nid001", False, "/nid001-nid001.o"),
        ("/%N.o", "nid[001-004,007],gpu01", False, "/nid001.o"),
        ("/%N.o", "r[1-2]n[03,05-06]x", False, "/r1n03x.o"),
        ("/%N.o", "nid001.site.org,nid002", False, "/nid001.o"),
        ("/%N.o", "", False, None),
        ("/%N_%a.o", "nid001", True, "/nid001_%a.o"),
        ("/%N_%a.o", "nid[001-002]", True, None),
        ("/%N_%a.o", "nid001,nid002", True, None),
        ("/%J.%s%n%t", "", False, "/12.batch00"),
        ("/%J.o", "nid001", True, None),
    ],
)
def test_what_is_known_when_the_job_runs(path, nodes, is_array, complete):
    assert completed_path(path, "12", nodes, is_array=is_array) == complete


@pytest.mark.parametrize(
    ("fields", "asked", "paths"),
    [
        ({}, {}, ("STDIN.o12", "STDIN.e12")),
        ({"name": "n"}, {}, ("n.o12", "n.e12")),
        ({"name": "n", "array": "0-3"}, {}, ("n.o12.^array_index^", "n.e12.^array_index^")),
        ({"name": "n", "array": "0-3"}, {"index": 2}, ("n.o12.2", "n.e12.2")),
        ({"name": "n", "stdout": "logs/", "stderr": "e"}, {}, ("logs/n.o12", "e")),
        ({"script": "#!/bin/sh\n#PBS -N n -j oe\n"}, {}, ("n.o12", "n.o12")),
        ({"script": "#!/bin/sh\n#PBS -o host:/x -j eo\n"}, {}, ("STDIN.e12", "STDIN.e12")),
        ({"script": "#!/bin/sh\n#PBS -o host:/x\n#SBATCH -e e\n"}, {}, ("/x", "STDIN.e12")),
    ],
)
def test_output_paths_of_pbs(fields, asked, paths):
    absolute = tuple(path if path.startswith("/") else f"/scratch/wd/{path}" for path in paths)
    assert output_paths(spec(**fields), "12.server", scheduler="pbs", **asked) == absolute
