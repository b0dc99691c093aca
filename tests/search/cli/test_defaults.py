"""Options from the environment: they arrive, those of the command line win, and what is wrong is said."""

from __future__ import annotations

from typing import Any

import pytest

VARIABLE = "PARETOFUSE_OPTIONS"
CLUSTER = "--storage-path s3://bucket/runs --gpus-per-trial 1 --gpu-memory 22GiB --no-packing --epochs 3"
SAID = f"from the variable {VARIABLE}: "


def kept(config: Any, *names: str) -> list[Any]:
    return [config.to_dict()[name] for name in names]


def test_they_arrive_and_are_said(asked, monkeypatch, capsys) -> None:
    monkeypatch.setenv(VARIABLE, f"{CLUSTER} --pooling text=mean --pooling 'image=cls'")
    config = asked("--space", "pmf_nas")
    names = ("storage_path", "gpus_per_trial", "gpu_memory", "packing", "epochs", "pooling")
    assert kept(config, *names) == ["s3://bucket/runs", 1, 22 * 2**30, False, 3, ("image=cls", "text=mean")]
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(SAID)]
    assert lines == [
        f"{SAID}--epochs 3 --pooling text=mean --pooling image=cls --storage-path s3://bucket/runs "
        "--gpus-per-trial 1 --gpu-memory 22GiB --no-packing"
    ]


def test_the_command_line_wins(asked, monkeypatch, capsys) -> None:
    monkeypatch.setenv(VARIABLE, "--epochs 3 --no-packing --pooling text=mean --space linear")
    config = asked("--space", "pmf_nas", "--packing", "--pooling", "image=cls", "--epochs", "4")
    assert kept(config, "space", "epochs", "packing", "pooling") == ["pmf_nas", 4, True, ("image=cls",)]
    assert SAID not in capsys.readouterr().err


def test_a_training_takes_those_that_it_has(asked, monkeypatch, capsys) -> None:
    monkeypatch.setenv(VARIABLE, "--epochs 3 --sampler random --space prompts")
    assert kept(asked("train", "--method", "linear"), "epochs") == [3]
    assert f"{SAID}--epochs 3\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resume", "found"), [("mine", {"storage_path": "s3://bucket/runs"}), ("s3://bucket/runs/mine", {})]
)
def test_a_resumed_search_takes_where_it_is_and_runs(resume, found, asked, monkeypatch, capsys) -> None:
    monkeypatch.setenv(VARIABLE, f"{CLUSTER} --num-samples 100")
    where = {"gpus_per_trial": 1, "gpu_memory": 22 * 2**30, "packing": False}
    assert asked("--resume", resume) == {**found, **where}
    assert "--epochs" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--nope 3", "No such option: --nope"),
        ("--epochs", "Option '--epochs' requires an argument"),
        ("--epochs three", "Invalid value for '--epochs'"),
        ("--epochs 0", "--epochs 0: must be at least 1"),
        ("--gpu-memory lots", "--gpu-memory 'lots' is not a size"),
        ("--name 'mine", "No closing quotation"),
        ("train --epochs 3", "Got unexpected extra argument"),
        ("--resume mine", "--resume can be given on the command line only"),
        ("--json", "--json can be given on the command line only"),
        ("--help", "No such option: --help"),
    ],
)
def test_what_is_wrong_is_said_with_the_variable(options, line, call, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, options)
    code, out, err = call("--space", "pmf_nas")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {VARIABLE}: {line}")
    assert err.count("\n") == 1


def test_a_password_is_not_shown(asked, monkeypatch, capsys) -> None:
    monkeypatch.setenv(VARIABLE, "--tracking-uri http://me:secret@host:5000")
    assert asked("--space", "pmf_nas").tracking.address.secrets
    err = capsys.readouterr().err
    assert SAID in err
    assert "secret" not in err
