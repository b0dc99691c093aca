"""The files for ``ray up`` as Ray sees them, and their commands with stand-ins. Nothing talks to AWS."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

from search.launching import KINDS

ROOT = Path(__file__).parents[3]
FILES = {"aws": ROOT / "cluster.yaml", "hosts": ROOT / "cluster-local.yaml"}
TOKEN = "~/.ray/auth_token"
REPO = "~/paretofuse"
INSTALL = "bash ~/paretofuse/scripts/install_on_node.sh"


@pytest.fixture(params=FILES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(kind: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[kind].read_text())


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file as ``ray up`` completes it, before it asks a provider anything."""
    return prepare_config(copy.deepcopy(config))


@pytest.fixture
def aws() -> dict[str, Any]:
    return yaml.safe_load(FILES["aws"].read_text())


@pytest.fixture
def local() -> dict[str, Any]:
    return yaml.safe_load(FILES["hosts"].read_text())


def planned(kind: str, **settings: Any) -> dict[str, Any]:
    """What ``launch`` writes with other settings."""
    (text,) = KINDS[kind].plan(KINDS[kind].settings(**settings), ()).files.values()
    return yaml.safe_load(text)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node's home with the repository's scripts, and stand-ins that note how they were called."""
    programs, home = tmp_path / "programs", tmp_path / "home"
    for folder in (programs, home / ".ray", home / "paretofuse"):
        folder.mkdir(parents=True)
    for name in ("scripts", "constraints.txt", "bundled-encoders.txt"):
        (home / "paretofuse" / name).symlink_to(ROOT / name)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    environment = "[$RAY_AUTH_MODE $RAY_ADDRESS $MLFLOW_TRACKING_URI $PARETOFUSE_OPTIONS]"
    note = f'echo "$(basename "$0") $* {environment}" >> {home}/calls\n'
    copies = "; ".join(f"cp {programs}/noted {home}/venv/bin/{name}" for name in ("python", "ray"))
    make_venv = f"mkdir -p {home}/venv/bin; {copies}"
    for name, script in {"python3": f'{note}[ "$2" != venv ] || {{ {make_venv}; }}\n', "noted": note}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    return home


def run(home: Path, commands: list[str], **environment: str) -> list[str]:
    """Run commands one by one in a fresh shell each, as Ray does; return the calls noted."""
    path = f"{home.parent / 'programs'}:{os.defpath}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", f"source ~/.bashrc; {command}"],
            cwd=home,
            env={"HOME": str(home), "PATH": path, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    return (home / "calls").read_text().splitlines()


def test_they_are_what_launch_writes_by_default(kind: str) -> None:
    assert KINDS[kind].plan(KINDS[kind].settings(), ()).files == {FILES[kind].name: FILES[kind].read_text()}


def test_they_follow_rays_schema(config: dict[str, Any]) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)


def test_ray_up_accepts_them(prepared: dict[str, Any]) -> None:
    validate_config(prepared)


def test_none_of_rays_default_commands_is_left(config: dict[str, Any], prepared: dict[str, Any]) -> None:
    ours = config["setup_commands"]
    assert prepared["worker_setup_commands"] == ours
    assert prepared["head_setup_commands"] == ours + config["head_setup_commands"]
    for name in ("initialization_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[name] == config[name]


def test_secrets_stay_behind_and_results_can_be_fetched(config: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {".git", ".venv", ".env", ".ssh", ".aws", "*.pem", "*.key"} <= set(config["rsync_exclude"])
    assert {"runs/", "mlruns/", "mlflow.db*", "fetched/"} <= set(ignored)
    assert config["rsync_filter"] == [".gitignore"]
    # `ray rsync-down` obeys the same list.
    assert not {"runs", "mlruns", "mlflow.db"} & {name.strip("/*") for name in config["rsync_exclude"]}


def test_no_secrets_and_no_image_ids(kind: str) -> None:
    secrets = r"AKIA[0-9A-Z]{12}|aws_secret|secret_access_key|PRIVATE KEY|arn:aws:iam::\d|\b[0-9a-f]{32,}\b"
    assert not re.search(rf"{secrets}|\bami-[0-9a-f]{{8,}}", FILES[kind].read_text(), re.IGNORECASE)


def test_what_they_name_exists(kind: str, config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {REPO: ".", TOKEN: TOKEN}
    names = re.findall(r"~/paretofuse/(\S+\.\w+)", FILES[kind].read_text())
    assert {"search.py", "scripts/install_on_node.sh", "scripts/mlflow_on_head.sh"} <= set(names)
    install = (ROOT / "scripts" / "install_on_node.sh").read_text()
    assert "--no-deps --require-hashes -r bundled-encoders.txt" in install
    files = re.findall(r" -[cr] (\S+\.txt)", install)
    for name in (*names, *files, *config["rsync_filter"]):
        assert (ROOT / name).is_file(), f"{name} is missing"


def test_constraints_fit_gpu_nodes() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert re.search(rf"^ray(\[.*\])?=={re.escape(ray.__version__)}\b", constraints, re.MULTILINE)
    # A local version such as +cpu would ask for another build than PyPI's, which is the CUDA one.
    assert not re.search(r"^torch\s*==\s*\S*\+", constraints, re.MULTILINE)


def test_setup_can_be_repeated(home: Path, config: dict[str, Any]) -> None:
    calls = run(home, config["setup_commands"] * 2)
    assert sum("-m venv" in call for call in calls) == 1
    pip = [call for call in calls if "-m pip install" in call]
    assert [call.split("[")[0] for call in pip[:1]] == [
        "python -m pip install -q -c constraints.txt -e . ray"
    ]
    assert len(pip) == 4
    for name in (".bashrc", ".profile"):
        assert (home / name).read_text().splitlines() == [". ~/.paretofuse.sh"]
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_the_profile_keeps_what_it_had(home: Path, config: dict[str, Any]) -> None:
    own = "case $- in *i*) ;; *) return ;; esac\nalias ll='ls -l'\n"
    (home / ".bashrc").write_text(own)
    run(home, config["setup_commands"])
    assert (home / ".bashrc").read_text() == f". ~/.paretofuse.sh\n{own}"


def test_a_search_on_the_head_has_the_clusters_defaults(
    home: Path, kind: str, config: dict[str, Any]
) -> None:
    run(home, config["setup_commands"] + config["head_setup_commands"])
    calls = run(home, ["python ~/paretofuse/search.py --space pmf_nas"])
    options = {
        "aws": "--storage-path s3://BUCKET/runs --gpus-per-trial 1 --compute-capability 8.6 "
        "--max-concurrent 4",
        "hosts": "--storage-path /shared/runs",
    }[kind]
    command = f"python {home}/paretofuse/search.py --space pmf_nas"
    assert calls[-1] == f"{command} [token auto http://127.0.0.1:5000 {options}]"


@pytest.mark.parametrize("node", ["head", "worker"])
def test_ray_starts_with_token_authentication(
    home: Path, kind: str, config: dict[str, Any], node: str
) -> None:
    run(home, config["setup_commands"])
    (home / "paretofuse" / "scripts").unlink()
    (home / "paretofuse" / "scripts").mkdir()
    (home / "paretofuse" / "scripts" / "mlflow_on_head.sh").write_text("echo started > ~/mlflow\n")
    calls = run(home, config[f"{node}_start_ray_commands"], RAY_HEAD_IP="10.0.0.1")
    assert calls[-2].startswith("ray stop")
    address = {"aws": "10.0.0.1", "hosts": "192.0.2.10"}[kind]
    where = "--head --port=6379" if node == "head" else f"--address={address}:6379"
    assert calls[-1].startswith(f"ray start {where} --object-manager-port=8076")
    assert "[token  " in calls[-1], "RAY_ADDRESS is for programs that join, and not for Ray itself"
    assert (home / "mlflow").exists() == (node == "head")
    assert all("ulimit -n 65536" in c for c in config[f"{node}_start_ray_commands"] if "ray start" in c)


class TestAws:
    def test_the_head_node_reads_the_same_from_it(self, aws: dict[str, Any]) -> None:
        seen = AutoscalingConfig(prepare_config(aws), skip_content_hash=True)
        types = seen.get_node_type_configs()
        assert seen.get_head_node_type() == "head"
        assert {name: t.min_worker_nodes for name, t in types.items()} == {"head": 0, "gpu": 0}
        assert types["gpu"].max_worker_nodes == seen.get_max_num_worker_nodes() == 4
        assert seen.get_idle_timeout_s() == 600

    def test_workers_are_spot_and_none_is_kept_up(self, aws: dict[str, Any]) -> None:
        worker = aws["available_node_types"]["gpu"]
        assert worker["min_workers"] == 0
        assert 0 < worker["max_workers"] <= aws["max_workers"]
        assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert "InstanceMarketOptions" not in str(planned("aws", spot=False))

    def test_the_head_is_on_demand_and_takes_no_trials(self, aws: dict[str, Any]) -> None:
        head = aws["available_node_types"][aws["head_node_type"]]
        assert head["resources"] == {"CPU": 0}
        assert "InstanceMarketOptions" not in head["node_config"]
        assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in aws["head_start_ray_commands"][-1]

    def test_credentials_of_a_node_are_its_own_and_need_a_token(self, aws: dict[str, Any]) -> None:
        nodes = {name: each["node_config"] for name, each in aws["available_node_types"].items()}
        assert nodes["head"]["IamInstanceProfile"] == {"Name": "paretofuse-head"}
        assert nodes["gpu"]["IamInstanceProfile"] == {"Name": "paretofuse-worker"}
        for node in nodes.values():
            assert node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
            # Without an ImageId Ray takes an Ubuntu 18.04, where PyTorch cannot be installed.
            assert node["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/")

    def test_settings_arrive(self) -> None:
        made = planned("aws", instance="g4dn.xlarge", workers=2, region="eu-central-1", name="mine")
        assert made["available_node_types"]["gpu"]["node_config"]["InstanceType"] == "g4dn.xlarge"
        assert (made["max_workers"], made["provider"]["region"]) == (2, "eu-central-1")
        assert made["cluster_name"] == "mine"
        assert "--compute-capability 7.5 --max-concurrent 2" in made["setup_commands"][1]
        shared = planned("aws", gpu_memory=22 * 2**30)["setup_commands"][1]
        assert "--gpu-memory 22GiB" in shared
        assert "--max-concurrent" not in shared  # several trials share a GPU


class TestHosts:
    def test_all_workers_are_started_by_the_autoscaler_that_can(self, local: dict[str, Any]) -> None:
        prepared = prepare_config(local)
        (only,) = prepared["available_node_types"].values()
        assert only["min_workers"] == only["max_workers"] == len(local["provider"]["worker_ips"]) == 2
        start = local["head_start_ray_commands"][-1]
        # What `ray up` puts in front has the opposite value.
        assert start.startswith("export RAY_enable_autoscaler_v2=0 ")
        assert " --num-cpus=0 --num-gpus=0 --node-ip-address=192.0.2.10" in start

    def test_settings_arrive(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        made = planned(
            "hosts",
            head="10.0.0.1",
            workers=("10.0.0.2",),
            external_head="cluster.example.org",
            user="me",
            key="~/.ssh/a key",
            storage_path="/nfs/my runs",
            wheels="/nfs/wheels",
            data=(str(tmp_path / "photos"),),
            gpu_memory=2**34,
        )
        assert made["provider"] == {
            "type": "local",
            "head_ip": "10.0.0.1",
            "worker_ips": ["10.0.0.2"],
            "external_head_ip": "cluster.example.org",
        }
        assert made["auth"] == {"ssh_user": "me", "ssh_private_key": "~/.ssh/a key"}
        assert made["file_mounts"]["~/data/photos"] == str(tmp_path / "photos")
        assert made["setup_commands"][-1] == f"PIP_NO_INDEX=1 PIP_FIND_LINKS=/nfs/wheels {INSTALL}"
        text = made["setup_commands"][1]
        done = subprocess.run(
            [
                "bash",
                "-c",
                f'{text}. ~/.paretofuse.sh; echo "$PARETOFUSE_OPTIONS|$MLFLOW_ARTIFACTS_DESTINATION"',
            ],
            env={"HOME": str(tmp_path), "PATH": os.defpath},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "--storage-path '/nfs/my runs' --gpu-memory 16GiB|/nfs/mlflow\n"

    @pytest.mark.parametrize(
        ("python", "said"),
        [
            ("exit 1", "there is no Python 3.11 or newer; install it"),
            (
                "case $2 in *version_info*) echo python3.12; exit 0 ;; esac; exit 1",
                "sudo apt install python3.12-venv",
            ),
        ],
    )
    def test_a_host_without_python_says_what_to_install(self, home: Path, python: str, said: str) -> None:
        for version in ("", ".11", ".12", ".13", ".14"):
            program = home.parent / "programs" / f"python3{version}"
            program.write_text(f"#!/bin/sh\n{python}\n")
            program.chmod(0o755)
        done = subprocess.run(
            ["bash", str(ROOT / "scripts" / "install_on_node.sh")],
            env={"HOME": str(home), "PATH": f"{home.parent / 'programs'}:{os.defpath}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (home / "venv").exists()
