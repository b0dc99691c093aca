"""The two sides of ``benchmarks/search_overhead.py`` do the same work: shown by what their processes did."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from tests.benchmarks import recorder
from tests.search.on_ray import ray_in

CONFIGS, EPOCHS = 2, 2
ROWS = {"train": 48, "validation": 12, "test": 12}  # of ``squares``


@pytest.fixture(scope="module")
def plain() -> Any:
    return importlib.import_module("plain_search")


@pytest.fixture(scope="module")
def encoders(tiny_encoders, tmp_path_factory) -> dict[str, str]:
    """Small encoders; that of images takes the images of the benchmark."""
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    size = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 4}
    Dinov2Model(Dinov2Config(image_size=84, patch_size=14, **size)).save_pretrained(folder)
    return {"text": str(tiny_encoders["bert"]), "image": str(folder)}


@pytest.fixture(scope="module")
def place(tmp_path_factory, ray_address, empty_store) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("overhead")
    with ray_in(folder, ray_address, empty_store):
        yield folder


@pytest.fixture(scope="module")
def ours(place, encoders, squares) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of our side, and what its workers did."""
    events = place / "ours"
    events.mkdir()
    plugin = place / "plugin.py"
    start = f"if os.getpid() != {os.getpid()}:\n    record({str(events)!r})\n"  # in workers only
    plugin.write_text(f"{Path(recorder.__file__).read_text()}\n\n{start}")
    result = importlib.import_module("our_search").search(
        CONFIGS,
        str(place / "runs"),
        epochs=EPOCHS,
        dataset=str(squares),
        text_encoder=encoders["text"],
        image_encoder=encoders["image"],
        tracking_uri=f"sqlite:///{place}/mlflow.db",
        plugins=(str(plugin),),
        precision="fp32",
    )
    return result, recorder.recorded(events)


@pytest.fixture(scope="module")
def theirs(plain, place, encoders, squares) -> list[dict[str, Any]]:
    """What the trials of the plain script do."""
    return _plain(plain, place / "plain", "fp32", encoders, squares)


def _plain(plain: Any, events: Path, precision: str, encoders: Any, squares: Path) -> list[dict[str, Any]]:
    events.mkdir()
    with recorder.record(str(events)):
        for config in plain.CONFIGS[:CONFIGS]:
            list(plain.trial(config, precision, EPOCHS, str(squares), encoders, 1))
    return recorder.recorded(events)


def _trials(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The steps of each trial, in an order that does not depend on which trial was first."""
    found = defaultdict(list)
    for event in events:
        if event["event"] == "step":
            found[event.pop("trial")].append(event)
    return sorted(found.values(), key=lambda steps: json.dumps(steps[0]["shapes"]))


def _of(events: list[dict[str, Any]], kind: str, *names: str) -> list[Any]:
    return [[event[name] for name in names] for event in events if event["event"] == kind]


pytestmark = pytest.mark.ray


@pytest.mark.full
def test_both_take_the_same_steps(ours, theirs) -> None:
    """Optimizer, its settings, the learning rate of each step, and the sizes of all trained parameters."""
    trials = _trials(theirs)
    assert _trials(ours[1]) == trials
    assert [len(steps) for steps in trials] == [EPOCHS * math.ceil(ROWS["train"] / 32)] * CONFIGS
    assert len({json.dumps(steps[0]["shapes"]) for steps in trials}) == CONFIGS


@pytest.mark.full
def test_both_train_on_the_same_batches(ours, theirs) -> None:
    names = ("method", "modalities", "rows", "autocast", "threads")
    batches = _of(theirs, "train", *names)
    assert sorted(_of(ours[1], "train", *names)) == sorted(batches)
    assert batches == [["PMF", ["image", "text"], rows, None, 1] for rows in (32, 16)] * EPOCHS * CONFIGS


@pytest.mark.full
def test_both_validate_the_same_rows(ours, theirs) -> None:
    """Our side scores members of the front on the test split as well."""
    assert sum(rows for [rows] in _of(theirs, "evaluate", "rows")) == CONFIGS * EPOCHS * ROWS["validation"]
    more = sum(rows for [rows] in _of(ours[1], "evaluate", "rows")) - CONFIGS * EPOCHS * ROWS["validation"]
    assert more in [count * ROWS["test"] for count in range(1, CONFIGS + 1)]


@pytest.mark.full
def test_our_side_has_the_plain_settings(plain, ours) -> None:
    result, _ = ours
    assert result["epochs"] == [EPOCHS] * CONFIGS
    assert result["setting"] == result["setting"] | {
        "batch_size": plain.BATCH,
        "gradient_accumulation": 1,
        "text_length": plain.TEXT_LENGTH,
        "image_size": plain.IMAGE_SIZE,
        "weight_decay": plain.WEIGHT_DECAY,
        "attention": "eager",
        "encoder_dropout": True,
        "gradient_checkpointing": False,
    }
    assert all(0 <= accuracy <= 1 for accuracy in result["accuracies"])
    assert all(seconds >= 0 for seconds in result["seconds"].values())


_CASTS = (torch.ops.aten.to.dtype, torch.ops.aten._to_copy.default)


class _Casts(TorchDispatchMode):
    """Counts the numbers that are cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _CASTS and result.dtype is torch.bfloat16 and args[0].dtype is torch.float32:
            self.count += result.numel()
        return result


@pytest.fixture
def plain_method(plain, place, encoders, squares, monkeypatch) -> Callable[[str], Any]:
    """Train by the plain script; return the method it trained and its validation split."""

    def train(precision: str) -> Any:
        seen: list[Any] = []
        validate = plain.validate
        monkeypatch.setattr(plain, "validate", lambda *given: (seen.append(given), validate(*given))[1])
        list(plain.trial(plain.CONFIGS[0], precision, 1, str(squares), encoders, 1))
        monkeypatch.setattr(plain, "validate", validate)
        return seen[0][:2]

    return train


def test_the_plain_script_sees_raw_rows_of_full_length(theirs) -> None:
    """It takes no cached features, and pads no text to the longest one of its batch."""
    raw = {"input_ids": [16], "attention_mask": [16], "pixel_values": [3, 84, 84]}
    assert all(shapes == raw for kind in ("train", "evaluate") for [shapes] in _of(theirs, kind, "shapes"))
    assert all(rows <= 32 for [rows] in _of(theirs, "evaluate", "rows"))


def test_the_plain_script_runs_whole_encoders(plain, plain_method, encoders) -> None:
    """A validation takes at least the operations of both encoders, as transformers runs them."""
    method, split = plain_method("fp32")
    rows = torch.arange(len(split))
    with FlopCounterMode(display=False) as encoding, torch.inference_mode():
        for modality, folder in encoders.items():
            encoder = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
            encoder(**split.inputs(modality, rows))
    with FlopCounterMode(display=False) as validating:
        plain.validate(method, split, "fp32")
    assert validating.get_total_flops() >= encoding.get_total_flops() > 0


def test_the_plain_script_casts_its_weights_in_every_batch(plain, plain_method) -> None:
    """As autocast does with frozen weights: they stay in fp32, and each use casts them."""
    method, split = plain_method("bf16")
    assert {parameter.dtype for parameter in method.parameters()} == {torch.float32}
    matrices = [module.weight for module in method.modules() if isinstance(module, torch.nn.Linear)]
    frozen = sum(weight.numel() for weight in matrices if not weight.requires_grad)
    with _Casts() as casts:
        plain.validate(method, split, "bf16")
    assert casts.count >= frozen > 0


def test_bf16_is_autocast_in_training_and_validation(plain, place, encoders, squares) -> None:
    events = _plain(plain, place / "bf16", "bf16", encoders, squares)
    assert {event["autocast"] for event in events if event["event"] != "step"} == {"torch.bfloat16"}


@pytest.mark.full
def test_all_runs_at_once(run, encoders, squares) -> None:
    document = run(
        "search_overhead",
        *("--epochs", "1", "--configs", "2", "--dataset", str(squares)),
        *("--text-encoder", encoders["text"], "--image-encoder", encoders["image"]),
    )
    names = ["plain, fp32", "plain, bf16", "ours, empty cache", "ours, full cache"]
    assert list(document["runs"]) == names
    for row in document["runs"].values():
        assert row["epochs"] == [1, 1]
        assert all(0 <= accuracy <= 1 for accuracy in row["accuracies"])
        assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
        assert min(row["parts"].values()) > -0.5  # clocks of two processes
    seconds = {name: row["seconds"] for name, row in document["runs"].items()}
    for name in names[:2]:
        assert document["ratios"][name] == {o: seconds[name] / seconds[o] for o in names[2:]}
