"""Hosts on which trials would not run alike: they are found before the first trial, and named."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from tests.cluster.lab import Host, Lab

_READY = "export RAY_USAGE_STATS_ENABLED=0 PATH=~/venv/bin:$PATH; cd ~;"
_OWN = "~/own/squares"
_SEARCH = (
    "python paretofuse/search.py --space pmf --num-samples 3 --epochs 1 --target cpu --no-probe "
    "--address auto --name mine --dataset /home/ubuntu/own/squares --text-encoder /shared/data/bert "
    "--image-encoder /shared/data/vit --batch-size 8 --text-length 10 --image-size 32"
)
_SHARED = f"{_SEARCH} --storage-path /shared/runs"


def _set_up(host: Host) -> None:
    """Give a host its own copies of the program and of the dataset."""
    host.run("cp -r /shared/program ~/paretofuse; mkdir ~/own; cp -r /shared/data/squares ~/own/")


@pytest.fixture(scope="module")
def hosts(lab: Lab, data: str) -> list[Host]:
    """Two hosts with a Ray cluster, on which the search would run."""
    hosts = lab.boot(2)
    shutil.copytree(lab.checkout, lab.shared / "program")
    for host in hosts:
        _set_up(host)
    _join(hosts[0], "--head --port=6379 --include-dashboard=false")
    _join(hosts[1], f"--address={hosts[0].address}:6379")
    return hosts


def _join(host: Host, how: str) -> None:
    host.run(f"{_READY} ray start --num-cpus=1 {how} --node-ip-address={host.address}")


@pytest.mark.parametrize(
    ("harm", "mend", "search", "said"),
    [
        (
            "mv ~/own ~/away",
            "mv ~/away ~/own",
            _SHARED,
            "dataset is not there rsync -aR /home/ubuntu/own/squares",
        ),
        (
            f"cp {_OWN}/test.parquet ~/kept; cp {_OWN}/train.parquet {_OWN}/test.parquet",
            f"mv ~/kept {_OWN}/test.parquet",
            _SHARED,
            "dataset holds other data",
        ),
        (
            "echo '# patched' >>~/paretofuse/trainables/trial/run.py",
            "cp /shared/program/trainables/trial/run.py ~/paretofuse/trainables/trial/",
            _SHARED,
            "code 1 file differs: trainables/trial/run.py rsync -a --delete",
        ),
        ("true", "true", f"{_SEARCH} --storage-path /home/ubuntu/runs", "storage is another one: mount"),
    ],
    ids=["no dataset", "another dataset", "another program", "no shared storage"],
)
def test_they_are_named_before_the_first_trial(
    harm: str, mend: str, search: str, said: str, hosts: list[Host]
) -> None:
    head, worker = hosts
    worker.run(harm)
    ended = head.run(f"{_READY} {search}", timeout=120, check=False)
    worker.run(mend)
    assert ended.returncode == 2, ended.stdout
    assert ended.stdout.splitlines()[-1] == (
        "error: 1 of 2 nodes cannot run trials as this one does, see above: node2 (10.77.0.12)"
    )
    shown = " ".join(ended.stdout.split())
    for words in ("node2", *said.split()):
        assert words in shown
    left = "ls -A /shared/runs /home/ubuntu/runs"
    for host in hosts:
        assert "mine" not in host.run(left, check=False).stdout, "nothing is left of it"


def test_once_all_is_mended_it_runs(hosts: list[Host]) -> None:
    check = _SHARED.replace("search.py", "search.py check")
    found = hosts[0].run(f"{_READY} {check} --json 2>/dev/null").stdout
    assert {node["hostname"] for node in json.loads(found)} == {"node1", "node2"}
    ended = hosts[0].run(f"{_READY} {_SHARED}", timeout=300)
    assert "2 nodes: same code, data and storage" in ended.stdout
    assert "3 trials" in ended.stdout


def test_a_host_that_joins_without_data_gets_no_trials(lab: Lab, hosts: list[Host]) -> None:
    third = lab.host(3)
    third.boot()
    _set_up(third)
    third.run("rm -r ~/own")
    endless = _SHARED.replace("--epochs 1", "--epochs 100000").replace("--name mine", "--name longer")
    search = hosts[0].start(f"{_READY} {endless}")
    assert search.stdout is not None
    output = ""
    for line in search.stdout:
        output += line
        if "3 trials of" in line:
            _join(third, f"--address={hosts[0].address}:6379")
        if "has joined" in line:
            break
    assert "node3 (10.77.0.13) has joined and gets no trials: dataset /home/ubuntu/own" in output
    time.sleep(10)  # two trials run, and one waits for a node
    assert not third.processes("ray::ResourceTrainable", "ray::FusionTrial")
    hosts[0].run("pkill -INT -f 'search.py --space'")
    rest, _ = search.communicate(timeout=120)
    assert search.returncode == 130, output + rest
