"""``cluster.yaml`` as Ray sees it, and what docs/cluster.md says to type. Nothing talks to AWS."""

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
import typer.main
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.scripts.scripts import cli as ray_cli

from search.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
TOKEN = "~/.ray/auth_token"
REPO = "~/paretofuse"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


@pytest.fixture
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """The file as ``ray up`` completes it, before it asks AWS anything."""
    return prepare_config(copy.deepcopy(config))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node's home folder with stand-ins for curl, uv, Python and Ray that note how they were called."""
    programs = tmp_path / "programs"
    home = tmp_path / "home"
    for folder in (programs, home / ".ray", home / "paretofuse"):
        folder.mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    note = f'echo "$(basename "$0") $* [$RAY_AUTH_MODE]" >> {home}/calls\n'
    install = f"mkdir -p {home}/.local/bin && cp {programs}/uv {home}/.local/bin/uv"
    make_venv = "".join(f"cp {programs}/noted {home}/venv/bin/{name}\n" for name in ("python", "ray"))
    for name, script in {
        "curl": f"{note}echo '{install}'\n",
        "uv": f"{note}mkdir -p {home}/venv/bin\n{make_venv}",
        "noted": note,
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    return home


def run(home: Path, commands: list[str], **environment: str) -> list[str]:
    """Run commands one by one in a fresh shell each, as Ray does; return the calls noted."""
    path = f"{home.parent / 'programs'}:{os.defpath}"
    for command in commands:
        subprocess.run(
            ["bash", "-c", command],
            check=True,
            cwd=home,
            env={"HOME": str(home), "PATH": path, **environment},
            capture_output=True,
        )
    return (home / "calls").read_text().splitlines()


def workers(config: dict[str, Any]) -> list[dict[str, Any]]:
    types = config["available_node_types"]
    return [node_type for name, node_type in types.items() if name != config["head_node_type"]]


def test_the_file_itself_follows_rays_schema(config: dict[str, Any]) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)


def test_ray_up_accepts_it(prepared: dict[str, Any]) -> None:
    validate_config(prepared)


def test_the_head_node_reads_the_same_from_it(prepared: dict[str, Any]) -> None:
    seen = AutoscalingConfig(prepared, skip_content_hash=True)
    types = seen.get_node_type_configs()
    assert seen.get_head_node_type() == "head"
    assert {name: t.min_worker_nodes for name, t in types.items()} == {"head": 0, "gpu_spot": 0}
    assert types["gpu_spot"].max_worker_nodes == seen.get_max_num_worker_nodes() == 4
    assert seen.get_idle_timeout_s() == 600


def test_none_of_rays_default_commands_is_left(config: dict[str, Any], prepared: dict[str, Any]) -> None:
    ours = config["setup_commands"]
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == ours
    for name in ("initialization_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[name] == config[name]


def test_workers_are_spot_and_none_is_kept_up(config: dict[str, Any]) -> None:
    assert workers(config)
    for node_type in workers(config):
        assert node_type["min_workers"] == 0
        assert 0 < node_type["max_workers"] <= config["max_workers"]
        assert node_type["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert config["idle_timeout_minutes"] > 0


def test_the_head_is_on_demand_and_takes_no_trials(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in config["head_start_ray_commands"][-1]


def test_no_secrets_and_no_image_ids(config: dict[str, Any]) -> None:
    secrets = r"AKIA[0-9A-Z]{12}|aws_secret|secret_access_key|PRIVATE KEY|arn:aws:iam::\d|\b[0-9a-f]{32,}\b"
    assert not re.search(rf"{secrets}|\bami-[0-9a-f]{{8,}}", TEXT + GUIDE, re.IGNORECASE)
    for node_type in config["available_node_types"].values():
        # Without an ImageId Ray takes an Ubuntu 18.04, where PyTorch cannot be installed.
        assert node_type["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/ami/")


def test_what_it_names_exists(config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {REPO: ".", TOKEN: TOKEN}
    setup = "\n".join(config["setup_commands"])
    files = re.findall(r" -[cr] (\S+)", setup)
    assert files == ["constraints.txt", "bundled-encoders.txt"]
    for name in [*files, *config["rsync_filter"], "pyproject.toml", "search.py"]:
        assert (ROOT / name).is_file(), f"{name} is missing"
    assert setup.count(f"cd {REPO} && ") == 2
    assert "--require-hashes -r bundled-encoders.txt" in setup


def test_constraints_fit_gpu_nodes() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert re.search(rf"^ray(\[.*\])?=={re.escape(ray.__version__)}\b", constraints, re.MULTILINE)
    # A local version such as +cpu would ask for another build than PyPI's, which is the CUDA one.
    assert not re.search(r"^torch\s*==\s*\S*\+", constraints, re.MULTILINE)


def test_results_and_environments_stay_behind(config: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {".git", ".venv"} <= set(config["rsync_exclude"])
    assert {"runs/", "mlruns/", "mlflow.db*"} <= set(ignored)
    # `ray rsync-down` obeys the same list and must be able to fetch these.
    assert not {"runs", "mlruns", "mlflow.db"} & {name.strip("/*") for name in config["rsync_exclude"]}


def test_setup_commands_can_be_repeated(home: Path, config: dict[str, Any]) -> None:
    calls = run(home, config["setup_commands"] * 2)
    pip = [call for call in calls if call.startswith("python -m pip install")]
    assert [call.split()[0] for call in calls if call not in pip] == ["curl", "uv"]
    assert len(pip) == 4
    assert (home / ".bashrc").read_text().count("RAY_AUTH_MODE=token") == 1
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_a_login_finds_ray_and_the_token_mode(home: Path, config: dict[str, Any]) -> None:
    run(home, config["setup_commands"])
    calls = run(home, ["source ~/.bashrc; ray status; python ~/paretofuse/search.py"])
    assert calls[-2:] == ["ray status [token]", f"python {home}/paretofuse/search.py [token]"]


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_ray_starts_with_token_authentication(home: Path, config: dict[str, Any], kind: str) -> None:
    run(home, config["setup_commands"])
    calls = run(home, config[f"{kind}_start_ray_commands"], RAY_HEAD_IP="10.0.0.1")
    where = "--head --port=6379" if kind == "head" else "--address=10.0.0.1:6379"
    assert calls[-2].startswith("ray stop")
    assert calls[-1].startswith(f"ray start {where} --object-manager-port=8076")
    assert calls[-1].endswith("[token]")
    assert all("ulimit -n 65536" in c for c in config[f"{kind}_start_ray_commands"] if "ray start" in c)


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_the_guides_ray_commands_exist() -> None:
    found = re.findall(r"(?:^|[`']|^# +)ray ([a-z-]+)((?: -[-a-z]+(?: \d+)?)*)", GUIDE + TEXT, re.MULTILINE)
    names = {name for name, _ in found}
    assert {"up", "down", "exec", "attach", "dashboard", "rsync-down", "get-auth-token", "status"} <= names
    for name, given in found:
        assert name in ray_cli.commands, f"ray {name}"
        assert set(re.findall(r"-[-a-z]+", given)) <= options(ray_cli.commands[name]), f"ray {name}{given}"


def test_the_guides_search_options_exist() -> None:
    searching = GUIDE[GUIDE.index("SEARCH=") :].split("```")[0].replace("--tmux", "")
    used = set(re.findall(r"--[a-z-]+", searching)) | set(re.findall(r"`(--[a-z-]+)[^`]*`", GUIDE))
    assert {"--space", "--address", "--storage-path", "--tracking-uri", "--gpus-per-trial"} <= used
    assert used - {"--tmux"} <= options(typer.main.get_command(app))
