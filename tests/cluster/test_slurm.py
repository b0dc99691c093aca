"""Slurm on hosts of the lab: the job that ``launch slurm`` writes runs a search, and goes on with it."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.cluster.lab import Host, Lab, wait_for

_PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
_CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={first.name}({first.address})
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP
"""
_RAY = ("raylet", "gcs_server", "ray::", "search.py", "symmetric-run")


@pytest.fixture(scope="module")
def nodes(lab: Lab) -> list[Host]:
    """Two nodes of a Slurm cluster, the first of which is also the controller."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [package for program, package in _PROGRAMS.items() if not shutil.which(program, path=path)]
    if missing:
        pytest.skip(f"needs the packages {', '.join(missing)}")
    hosts = lab.boot(2, loopback_name=True)
    shutil.copytree(lab.checkout, lab.shared / "paretofuse")
    lines = [f"NodeName={host.name} NodeAddr={host.address} CPUs={os.cpu_count()}" for host in hosts]
    configuration = _CONFIGURATION.format(first=hosts[0], nodes="\n".join(lines))
    setup = lab.shared / "slurm"
    setup.mkdir()
    (setup / "slurm.conf").write_text(configuration)
    # The hosts have no control groups, and Slurm would look for them.
    (setup / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (setup / "munge.key").write_bytes(os.urandom(128))
    for host in hosts:
        host.run(
            "cp /shared/slurm/*.conf /etc/slurm; mkdir -p /var/spool/slurmctld /var/spool/slurmd; "
            "install -o munge -m 400 /shared/slurm/munge.key /etc/munge; install -d -o munge /run/munge; "
            "runuser -u munge -- munged",
            user="root",
        )
    hosts[0].run("slurmctld", user="root")
    for host in hosts:
        host.run("slurmd", user="root")
    wait_for(lambda: hosts[0].run("sinfo -h -o '%D %t'").stdout.split() == ["2", "idle"], 60, "both nodes")
    return hosts


def test_a_job_goes_on_where_the_one_before_it_ended(lab: Lab, nodes: list[Host], data: str):
    first, _ = nodes
    search = f"--space pmf_nas --num-samples 2 --epochs 8 --no-probe {data}"
    launch = "~/venv/bin/python /shared/paretofuse/search.py launch slurm --gpus 0 --time 30m --submit"
    first.run(f"mkdir /shared/mine && cd /shared/mine && {launch} -- {search}")
    folder = lab.shared / "mine"

    def ended(job: int) -> None:
        wait_for(lambda: not first.run("squeue -h").stdout, 400, "the job to end")
        assert not list(folder.glob("*.token"))
        for node in nodes:
            assert not node.processes(*_RAY)
            assert not node.run("ls -d /tmp/ray*", check=False).stdout.startswith("/tmp")
        print((folder / f"paretofuse-{job}.log").read_text())

    wait_for(lambda: list(folder.glob("runs/paretofuse/trial-*/checkpoint_*")), 400, "trials to run")
    assert (folder / "paretofuse-1.token").stat().st_mode & 0o777 == 0o600
    first.run("scancel --batch --signal=TERM 1")
    ended(1)
    assert "interrupted" in (folder / "paretofuse-1.log").read_text()

    first.run("cd /tmp && sbatch /shared/mine/search.sbatch")
    ended(2)
    result = json.loads((folder / "runs/paretofuse/result.json").read_text())
    assert (result["trials"], result["failed"]) == (2, 0)
    assert "Pareto front of 'paretofuse'" in (folder / "paretofuse-2.log").read_text()
    assert (folder / "runs/paretofuse.mlflow.db").exists()
