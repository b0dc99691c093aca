"""How encoders want their images and sounds, as their files state it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.errors import UserError
from trainables.notices import pending
from trainables.towers import (
    check_encoder,
    image_statistics,
    normalizes_sounds,
    resolve_encoder,
    save_encoder,
)

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
STATED = {"image_mean": MEAN, "image_std": STD}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.fixture
def vit(tiny_encoders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of an image encoder that states nothing of its pixels."""
    folder = Path(shutil.copytree(tiny_encoders["vit"], tmp_path / "vit"))
    (folder / "preprocessor_config.json").unlink()
    return folder


def _state(folder: Path, content: Any, name: str = "preprocessor_config.json") -> None:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def _refusal(folder: Path, kind: str = "image") -> str:
    with pytest.raises(UserError) as refused:
        check_encoder(resolve_encoder(kind, str(folder)))
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    "stated",
    [
        STATED,
        {**STATED, "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255},
        {**STATED, "do_normalize": False},
        {**STATED, "do_normalize": None},
        {**STATED, "rescale_factor": 1 / 127.5},
        {"image_mean": [120, 110, 100], "image_std": [60, 50, 40], "do_rescale": False},
        {"do_normalize": False, "do_rescale": False},
        {"image_mean": 0.5, "image_std": 0.25},
    ],
    ids=str,
)
def test_pixels_become_what_the_files_state(vit, stated) -> None:
    _state(vit, stated)
    mean, std = image_statistics(resolve_encoder("image", str(vit)))
    for channel, byte in enumerate((0, 100, 255)):
        wanted = float(byte)
        if stated.get("do_rescale", True):
            wanted *= stated.get("rescale_factor", 1 / 255)
        if stated.get("do_normalize") is not False:
            stats = (stated[name] for name in ("image_mean", "image_std"))
            mean_of, std_of = (value[channel] if isinstance(value, list) else value for value in stats)
            wanted = (wanted - mean_of) / std_of
        assert (byte / 255 - mean[channel]) / std[channel] == pytest.approx(wanted)


def test_a_processor_of_several_modalities_states_it_for_each(vit) -> None:
    _state(vit, {"image_processor": STATED, "feature_extractor": {}}, "processor_config.json")
    assert image_statistics(resolve_encoder("image", str(vit))) == (MEAN, STD)
    _state(vit, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    _state(vit, STATED)
    assert image_statistics(resolve_encoder("image", str(vit))) == (MEAN, STD)


def test_a_saved_encoder_keeps_it(vit, tmp_path) -> None:
    _state(vit, {"image_processor": STATED}, "processor_config.json")
    save_encoder(resolve_encoder("image", str(vit)), {}, tmp_path / "saved")
    assert image_statistics(resolve_encoder("image", str(tmp_path / "saved"))) == (MEAN, STD)


def test_it_is_told_if_no_file_states_it(vit) -> None:
    pending()
    assert image_statistics(resolve_encoder("image", str(vit))) == IMAGENET
    assert pending() == [
        f"encoder '{vit}': no file states image_mean and image_std of its pixels; ImageNet's is taken"
    ]
    _state(vit, {"image_mean": MEAN})
    assert image_statistics(resolve_encoder("image", str(vit))) == (MEAN, IMAGENET[1])
    assert pending() == [f"encoder '{vit}': no file states image_std of its pixels; ImageNet's is taken"]
    assert image_statistics(resolve_encoder("image", "arch:vit-base")) == IMAGENET
    assert not pending()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "its preprocessor_config.json is no JSON (Expecting property name"),
        ("", "its preprocessor_config.json is empty"),
        ([STATED], "its preprocessor_config.json holds no JSON object"),
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer and not the file: run `git lfs",
        ),
        ({**STATED, "image_mean": [0.5]}, "states image_mean [0.5]; accepted: three numbers"),
        ({**STATED, "image_mean": ["0.5"] * 3}, 'states image_mean "0.5"; accepted: finite numbers'),
        ({**STATED, "image_mean": "0.5"}, 'states image_mean "0.5"; accepted: finite numbers'),
        (
            {**STATED, "image_std": [0.5, 0.0, 0.5]},
            "states image_std [0.5, 0.0, 0.5]; accepted: three numbers above 0",
        ),
        ({**STATED, "image_std": [0.5, float("nan"), 1]}, "states image_std NaN; accepted: finite numbers"),
        ({**STATED, "do_normalize": "no"}, 'states do_normalize "no"; accepted: true or false'),
        ({**STATED, "rescale_factor": 0}, "states rescale_factor 0.0; accepted: a number above 0"),
        (
            {"image_mean": [120, 110, 100], "image_std": [60, 50, 40]},
            "states image_mean [120, 110, 100]; accepted: three numbers from 0 to 1, the range of its pixels",
        ),
        (
            {**STATED, "image_mean": [1, 2, 3], "do_rescale": False, "image_std": [0, 1, 1]},
            "states image_std [0.0, 1.0, 1.0]; accepted",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(vit, content, reason) -> None:
    _state(vit, content)
    assert reason in _refusal(vit)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "its preprocessor_config.json is no JSON"),
        ({"do_normalize": 0}, "states do_normalize 0; accepted: true or false"),
        ({"sampling_rate": 8000}, "states sampling_rate 8000; accepted: 16000"),
    ],
)
def test_sounds_are_stated_as_strictly(tiny_encoders, tmp_path, content, reason) -> None:
    folder = Path(shutil.copytree(tiny_encoders["hubert"], tmp_path / "hubert"))
    assert normalizes_sounds(resolve_encoder("audio", str(folder)))
    _state(folder, content)
    assert reason in _refusal(folder, "audio")


def test_weights_of_an_encoder_without_files_are_no_less_checked(vit) -> None:
    torch.save({}, vit / "model.safetensors")
    assert "cannot load its weights (model.safetensors is cut off or damaged" in _refusal(vit)
