"""A host that offers a GPU which does not work trains nothing, least of all on its CPU."""

from __future__ import annotations

import shutil

from tests.cluster.lab import Lab

_READY = "export PYTHONPATH=/shared/paretofuse RAY_USAGE_STATS_ENABLED=0 PATH=~/venv/bin:$PATH; cd /shared;"


def test_it_is_named_before_the_first_trial(lab: Lab, data: str) -> None:
    (host,) = lab.boot(1)
    shutil.copytree(lab.checkout, lab.shared / "paretofuse")
    start = f"ray start --head --port=6379 --node-ip-address={host.address} --include-dashboard=false"
    host.run(f"{_READY} {start} --num-gpus=1")
    search = f"python paretofuse/search.py --space pmf_nas {data} --num-samples 2 --address auto --name gpus"
    ended = host.run(f"{_READY} {search} --gpu-memory 8GB", timeout=200, check=False)
    assert ended.returncode == 2, ended.stdout
    shown = " ".join(ended.stdout.split())
    assert f"1 of 1 node cannot run trials as this one does, see above: node1 ({host.address})" in shown
    assert "CUDA" in shown
    assert not (lab.shared / "runs" / "gpus").exists(), "nothing is left of it"
