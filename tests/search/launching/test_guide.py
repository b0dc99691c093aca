"""docs/cluster.md names commands, options and permissions that are so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ray.scripts.scripts import cli as ray_cli

from search.cli import app

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
FILES = "".join((ROOT / name).read_text() for name in ("cluster.yaml", "cluster-local.yaml"))
#: The command lines in the guide's blocks of shell code, without comments.
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    for line in re.sub(r"(?s)cat > \w+\.json <<'END'\n.*?\nEND\n", "", block)
    .replace("\\\n", " ")
    .splitlines()
]


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def given(words: list[str]) -> set[str]:
    return {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}


def test_rays_commands_exist() -> None:
    of_jobs = ray_cli.commands["job"].commands
    found = [line[1:] for line in LINES if line[:1] == ["ray"]]
    found += [shlex.split(text)[1:] for text in re.findall(r"^#     (ray .*?)(?:  |$)", FILES, re.MULTILINE)]
    found += [text.split() for text in re.findall(r"`ray ([a-z-]+(?: --?[a-z-]+)*)`", GUIDE)]
    assert {"up", "exec", "attach", "dashboard", "monitor", "job", "get-auth-token"} <= {f[0] for f in found}
    for name, *words in found:
        own = words[: words.index("--")] if "--" in words else words
        command = of_jobs[own[0]] if name == "job" else ray_cli.commands[name]
        assert given(own) <= options(command), (name, *words)


@pytest.mark.parametrize("text", re.findall(r"python \S*search\.py[^'`\n#]*", GUIDE))
def test_options_of_the_program_exist(text: str) -> None:
    words = shlex.split(text)[2:]
    command: Any = typer.main.get_command(app)
    if words[:1] == ["launch"]:
        command = command.commands["launch"]
        command = command.commands.get(words[1], command) if len(words) > 1 else command
    own, search = (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, [])
    accepted = options(command) | {"--dry-run", "--submit", "--help"}
    assert given(own) <= accepted
    assert given(search[1:]) <= options(typer.main.get_command(app))


def policies() -> dict[str, list[dict[str, Any]]]:
    found = re.findall(r"cat > (\w+)\.json <<'END'\n(.*?)\nEND\n", GUIDE, re.DOTALL)
    return {name: json.loads(text)["Statement"] for name, text in found}


def test_workers_may_use_the_bucket_and_nothing_else() -> None:
    assert set(policies()) == {"bucket", "head", "ec2"}
    for statement in policies()["bucket"]:
        assert all(action.startswith("s3:") for action in statement["Action"])
        assert statement["Resource"].startswith("arn:aws:s3:::BUCKET")
    (worker,) = [line for line in GUIDE.splitlines() if "--policy-name nodes" in line]
    assert "--role-name paretofuse-head " in worker


def test_the_head_may_not_take_other_roles_or_end_others_nodes() -> None:
    head = {json.dumps(each["Action"]): each for each in policies()["head"]}
    assert head['"iam:PassRole"']["Resource"] == "arn:aws:iam::*:role/paretofuse-worker"
    (ending,) = [each for action, each in head.items() if "TerminateInstances" in action]
    assert ending["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "paretofuse"}}
    for statement in policies()["head"]:
        assert statement["Resource"] != "*" or statement["Action"] == [
            "ec2:DescribeInstances",
            "ec2:RunInstances",
        ]


def test_the_files_roles_are_those_of_the_guide() -> None:
    assert re.findall(r"IamInstanceProfile: {Name: paretofuse-(\w+)}", FILES) == ["head", "worker"]
    assert "for name in head worker; do" in GUIDE


def test_no_secrets() -> None:
    secrets = r"AKIA[0-9A-Z]{12}|aws_secret|secret_access_key|PRIVATE KEY|arn:aws:iam::\d|\b[0-9a-f]{32,}\b"
    assert not re.search(rf"{secrets}|\bami-[0-9a-f]{{8,}}", GUIDE, re.IGNORECASE)
