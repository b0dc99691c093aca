"""``launch`` writes files and runs commands, and checks the options of the search before both."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.launching import KINDS

SEARCH = ("--", "--space", "pmf_nas", "--num-samples", "3")


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_prints_files_and_commands_only(call, kind) -> None:
    code, out, _ = call("launch", kind, "--dry-run", *SEARCH)
    assert code == 0
    plan = KINDS[kind].plan(KINDS[kind].settings(), SEARCH[1:])
    assert plan.files
    for text in (*plan.files.values(), *plan.commands):
        assert text in out
    assert "pmf_nas" in "".join((*plan.files.values(), *plan.commands))
    assert not list(Path().iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_written_and_commands_said(call, kind) -> None:
    code, out, _ = call("launch", kind, *SEARCH)
    assert code == 0
    plan = KINDS[kind].plan(KINDS[kind].settings(), SEARCH[1:])
    assert {path: Path(path).read_text() for path in plan.files} == plan.files
    assert all(command in out for command in plan.commands)


def test_another_file_is_not_replaced(call) -> None:
    Path("cluster-local.yaml").write_text("mine")
    code, _, err = call("launch", "hosts", "--head", "10.0.0.1")
    assert code == 2
    assert "cluster-local.yaml exists and holds something else" in err
    assert Path("cluster-local.yaml").read_text() == "mine"
    assert call("launch", "hosts", "--head", "10.0.0.1", "--file", "second.yaml")[0] == 0
    assert "head_ip: 10.0.0.1\n" in Path("second.yaml").read_text()
    assert call("launch", "hosts", "--head", "10.0.0.1", "--force")[0] == 0
    assert Path("cluster-local.yaml").read_text() == Path("second.yaml").read_text().replace(
        "second.yaml", "cluster-local.yaml"
    )


def test_what_the_defaults_make_is_replaced(call) -> None:
    assert call("launch", "hosts")[0] == 0
    assert call("launch", "hosts", "--head", "10.0.0.1")[0] == 0
    code, out, _ = call("launch", "hosts", "--head", "10.0.0.1")
    assert code == 0
    assert "unchanged: cluster-local.yaml" in out
    assert "an example so far: --workers is missing" in out


def test_submit_runs_the_commands_until_one_fails(call, monkeypatch, tmp_path) -> None:
    calls, ray = tmp_path / "calls", tmp_path / "programs" / "ray"
    ray.parent.mkdir()
    ray.write_text(f'#!/bin/sh\necho "$#: $*" >> {calls}\ntest "$*" != "up --yes bad.yaml"\n')
    ray.chmod(0o755)
    monkeypatch.setenv("PATH", str(ray.parent), prepend=":")
    hosts = ("launch", "hosts", "--head", "10.0.0.1", "--workers", "10.0.0.2", "--submit")
    code, out, _ = call(*hosts, *SEARCH, "--name", "two words")
    assert code == 0
    assert "$ ray up --yes cluster-local.yaml\n" in out
    heard = calls.read_text().splitlines()
    assert heard[:2] == ["2: get-auth-token --generate", "3: up --yes cluster-local.yaml"]
    assert heard[2] == "3: exec cluster-local.yaml python -m search.launching.running.waiting 10.0.0.2"
    assert heard[3].startswith("4: exec --tmux cluster-local.yaml python paretofuse/search.py")
    assert heard[3].endswith("--name 'two words'")  # as the shell on the head reads it
    code, _, err = call(*hosts, "--file", "bad.yaml", *SEARCH)
    assert code == 2
    assert "`ray up --yes bad.yaml` failed with exit code 1; not run: ray exec" in err
    assert len(calls.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spaces", "x"], "No such option: --spaces"),
        (["--space", "nope"], "unknown space 'nope'"),
        (["--space", "pmf_nas", "--epochs", "0"], "--epochs 0: must be at least 1"),
        (["--num-samples", "3"], "--space is missing"),
        (["--space", "pmf_nas", "--num-samples", "+3"], "--num-samples +3"),
        (["train"], "unexpected extra argument"),
        (["--space", "pmf_nas", "--address", "auto"], "--address: the search joins the cluster"),
        (
            ["--space", "pmf_nas", "--tracking-uri", "http://me:secret@there"],
            "--tracking-uri: its password would stand in a file",
        ),
    ],
)
def test_wrong_options_of_the_search_start_nothing(call, options, message) -> None:
    code, out, err = call("launch", "hosts", "--submit", "--", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert "secret" not in err
    assert not list(Path().iterdir())


def test_a_search_can_be_resumed(call) -> None:
    code, out, _ = call("launch", "hosts", "--", "--resume", "first", "--num-samples", "+3")
    assert code == 0
    assert "paretofuse/search.py --resume first --num-samples +3" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "Mine"], "--name Mine: must be"),
        (["--head", "node1"], "--head node1: must be an IP address; `getent hosts node1`"),
        (["--head", "127.0.1.1"], "--head 127.0.1.1: no other machine reaches this one"),
        (["--workers", "192.0.2.10"], "192.0.2.10: is named twice"),
        (["--workers", ","], "--workers: names no machine"),
        (["--storage-path", "runs"], "--storage-path runs: must be an absolute path"),
        (["--data", "missing"], "--data missing: there is no such folder"),
        (["--dry-run", "--submit"], "leave one of them out"),
        (["--submit"], "--head is missing"),
        (["--submit", "--head", "10.0.0.1"], "--workers is missing"),
        (["--region", "x"], "No such option: --region"),
    ],
)
def test_wrong_settings_of_the_cluster_are_refused(call, options, message) -> None:
    code, _, err = call("launch", "hosts", *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())
