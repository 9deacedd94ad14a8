"""A DAG that was written for CSCS's tutorial operators, with nothing but its import line changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# As such DAGs are: bare `system`, `script` and `working_dir`, a remote directory as `target_path`, one remote file
# with a local file name, the placeholder, another task's id, hyphens in ids, operators of Airflow's own between.
DAG = '''
import os

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG

from airflow_provider_firecrest.operators import (FirecRESTDownloadFromJobOperator,
                                                  FirecRESTDownloadOperator,
                                                  FirecRESTSubmitOperator,
                                                  FirecRESTUploadOperator)

here = os.environ['TUTORIAL_HERE']
there = os.environ['TUTORIAL_THERE']
cluster = os.environ['TUTORIAL_SYSTEM']

script = """#!/bin/bash -l

#SBATCH --job-name=tutorial
#SBATCH --output=slurm-%j.out
#SBATCH --time=00:05:00
#SBATCH --nodes=1

mkdir -p output
echo '!    total energy              =     -15.84445510 Ry'
cat si.scf.in Si.UPF > output/silicon.xml
"""

with DAG(
    dag_id='tutorial',
    schedule='@daily',
    start_date=pendulum.datetime(2025, 1, 1, tz='UTC'),
    catchup=False,
) as dag:
    wait = FileSensor(task_id='wait-for-file', filepath=os.path.join(here, 'structs', 'si.scf.in'), poke_interval=1)
    up_in = FirecRESTUploadOperator(
        task_id='upload-in', system=cluster, source_path=os.path.join(here, 'structs', 'si.scf.in'), target_path=there)
    up_pp = FirecRESTUploadOperator(
        task_id='upload-pp', system=cluster, source_path=os.path.join(here, 'Si.UPF'), target_path=there)
    submit = FirecRESTSubmitOperator(task_id='job-submit', system=cluster, script=script, working_dir=there)
    get_out = FirecRESTDownloadFromJobOperator(
        task_id='download-out', system=cluster, remote_files=['slurm-{_jobid_}.out'],
        local_path=os.path.join(here, 'output.out'), target_task_id='job-submit')
    get_xml = FirecRESTDownloadFromJobOperator(
        task_id='download-xml', system=cluster, remote_files=['output/silicon.xml'],
        local_path=os.path.join(here, 'silicon.xml'), target_task_id='job-submit')
    get_in = FirecRESTDownloadOperator(
        task_id='download-in', system=cluster, remote_files=[there + '/si.scf.in'], local_path=here)
    log = BashOperator(
        task_id='log-results',
        bash_command=(f"echo $(date) '  |  ' "
                      f"$(grep '!    total energy' {here}/output.out) >> {here}/list.txt"))
    drop = BashOperator(task_id='remove-struct', bash_command=f'rm {here}/structs/si.scf.in')

    wait >> [up_in, up_pp] >> submit >> [get_out, get_xml, get_in]
    get_out >> log
    up_in >> drop
'''

RUN = """
import json, pendulum
from airflow.utils.db import initdb
initdb()
from tutorial import dag
run = dag.test(logical_date=pendulum.now("UTC"))
with open("run.json", "w") as file:
    json.dump({one.task_id: one.state for one in run.get_task_instances()}, file)
"""


def test_the_tutorials_dag_runs(connected, workdir: Path, tmp_path: Path, monkeypatch) -> None:
    """The whole of Airflow but its processes: the DAG's file, its serialization, the database, tasks and triggers."""
    potential = "potential\n" * 8000  # more than goes directly, so that a transfer job is waited for
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "tutorial.py").write_text(DAG)
    (tmp_path / "structs").mkdir()
    (tmp_path / "structs" / "si.scf.in").write_text("two atoms\n")
    (tmp_path / "Si.UPF").write_text(potential)
    for name, value in {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "PYTHONPATH": f"{tmp_path / 'dags'}:{Path(__file__).parents[2]}",
        "TUTORIAL_HERE": str(tmp_path),
        "TUTORIAL_THERE": str(workdir),
        "TUTORIAL_SYSTEM": connected.system,
        "AIRFLOW_CONN_FS_DEFAULT": "fs://",
    }.items():
        monkeypatch.setenv(name, value)
    ran = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    states = json.loads((tmp_path / "run.json").read_text()) if (tmp_path / "run.json").exists() else {}
    assert states, ran.stdout[-5000:] + ran.stderr[-5000:]
    assert set(states.values()) == {"success"}, (states, ran.stdout[-10000:])
    assert len(states) == 9
    assert "-15.84445510 Ry" in (tmp_path / "list.txt").read_text()
    assert (tmp_path / "silicon.xml").read_text() == "two atoms\n" + potential
    assert (tmp_path / "si.scf.in").read_text() == "two atoms\n"
    assert not (tmp_path / "structs" / "si.scf.in").exists()
    assert connected.client_secret not in ran.stdout + ran.stderr
