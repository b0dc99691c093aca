"""Folders that say wrongly, or not at all, what model they hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import UserError
from trainables.towers import most_tokens, resolve_encoder

TEXT = "bert, roberta, xlm-roberta, camembert, distilbert, gpt2, clip_text_model, clip"
IMAGE = "vit, deit, dinov2, dinov2_with_registers, swin, clip_vision_model, clip"


@pytest.fixture
def bert(tiny_encoders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of an encoder, to be damaged."""
    return Path(shutil.copytree(tiny_encoders["bert"], tmp_path / "bert"))


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _refusal(kind: str, folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        resolve_encoder(kind, str(folder))
    return str(refused.value).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (None, "encoder 'FOLDER': the folder has no config.json"),
        ("", "encoder 'FOLDER': its config.json is empty"),
        ("{", "encoder 'FOLDER': its config.json is no JSON (Expecting property name"),
        ("[1]", "encoder 'FOLDER': its config.json holds no JSON object"),
        (
            "{}",
            f"encoder 'FOLDER': its config.json states no model_type, its family; supported: {TEXT}",
        ),
        ('{"model_type": 7}', "encoder 'FOLDER': its config.json states no model_type"),
        ('{"model_type": "theirs"}', f"encoder 'FOLDER' is of the family 'theirs'; supported: {TEXT}"),
        ('{"model_type": "t5"}', f"encoder 'FOLDER' is of the family 't5'; supported: {TEXT}"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "encoder 'FOLDER': its config.json is a Git LFS pointer and not the file: run `git lfs pull`",
        ),
    ],
)
def test_a_folder_must_state_a_family_that_is_known(bert, content, refusal) -> None:
    (bert / "config.json").unlink()
    if content is not None:
        (bert / "config.json").write_text(content)
    assert _refusal("text", bert).startswith(refusal)


@pytest.mark.parametrize("layers", [-1, 0, 10**9])
def test_layers_are_so_many_that_they_can_be_built(bert, layers) -> None:
    _change(bert / "config.json", num_hidden_layers=layers)
    assert f"its config.json asks for {layers:,} layers; accepted: 1 to 1,000" in _refusal("text", bert)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"use_cache": -1},
            "its config.json cannot be used (Validation error for field 'use_cache': TypeError",
        ),
        (
            {"layer_norm_eps": "x"},
            "its config.json cannot be used (Validation error for field 'layer_norm_eps'",
        ),
    ],
)
def test_settings_of_another_type_are_named(bert, values, reason) -> None:
    _change(bert / "config.json", **values)
    assert reason in _refusal("text", bert)


def test_sizes_that_are_not_stated_are_refused(tiny_encoders, tmp_path) -> None:
    folder = Path(shutil.copytree(tiny_encoders["features"], tmp_path / "features"))
    _change(folder / "config.json", num_hidden_layers=None)
    assert "its config.json cannot be used (" in _refusal("sensor", folder)


def test_positions_are_absolute(bert) -> None:
    _change(bert / "config.json", position_embedding_type="relative_key")
    assert "has positions of the type 'relative_key'; accepted: 'absolute'" in _refusal("text", bert)


def test_a_folder_around_the_encoders_is_told_from_one(bert) -> None:
    assert _refusal("text", bert.parent).endswith(": the folder has no config.json; is it FOLDER/bert?")


def test_an_adapter_alone_is_no_encoder(bert) -> None:
    (bert / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds an adapter of PEFT; merge it into its model" in _refusal("text", bert)


def test_the_families_of_its_modality_are_named(tiny_encoders) -> None:
    refusals = [_refusal(kind, tiny_encoders[name]) for kind, name in (("image", "bert"), ("text", "vit"))]
    assert refusals == [
        f"encoder 'FOLDER' encodes text, not image; supported: {IMAGE}",
        f"encoder 'FOLDER' encodes image, not text; supported: {TEXT}",
    ]
    with pytest.raises(UserError, match=r"encodes text, not audio; supported: wav2vec2, hubert, whisper$"):
        resolve_encoder("noise", str(tiny_encoders["bert"]), kind="audio")


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov2_with_registers", "swin"])
def test_sides_that_are_stated_twice_are_one_length(tiny_encoders, tmp_path, family) -> None:
    folder = Path(shutil.copytree(tiny_encoders[family], tmp_path / family))
    patch = json.loads((folder / "config.json").read_text())["patch_size"]
    _change(folder / "config.json", image_size=[32, 32], patch_size=[patch, patch])
    source = resolve_encoder("image", str(folder))
    assert (source.config.image_size, source.config.patch_size) == (32, patch)
    assert source.image_size == (224 if family.startswith("dino") else 32)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"image_size": [32, 64]},
            "its config.json states image_size [32, 64]; accepted: one length in pixels",
        ),
        ({"patch_size": [8, 4]}, "its config.json states patch_size [8, 4]; accepted"),
        ({"image_size": 0}, "its config.json states image_size 0; accepted"),
        ({"num_channels": 1}, "takes images of 1 channels; accepted: encoders of 3"),
    ],
)
def test_images_are_square_and_colored(tiny_encoders, tmp_path, values, reason) -> None:
    folder = Path(shutil.copytree(tiny_encoders["vit"], tmp_path / "vit"))
    _change(folder / "config.json", **values)
    assert reason in _refusal("image", folder)


@pytest.mark.parametrize(("pad", "most"), [(0, 39), (1, 38), (5, 34)])
def test_positions_are_counted_from_the_padding_index(tiny_encoders, tmp_path, pad, most) -> None:
    for family in ("roberta", "xlm-roberta", "camembert"):
        folder = Path(shutil.copytree(tiny_encoders[family], tmp_path / family, dirs_exist_ok=True))
        _change(folder / "config.json", pad_token_id=pad)
        assert most_tokens(resolve_encoder("text", str(folder)).config) == most


def test_a_path_is_no_name_on_the_hub(bert) -> None:
    missing = bert / "missing"
    assert _refusal("text", missing) == (
        "encoder 'FOLDER': there is no such folder; accepted: the folder that holds its config.json"
    )
    assert "is a file, not a folder; accepted" in _refusal("text", bert / "model.safetensors")


def test_architectures_of_the_modality_are_named() -> None:
    with pytest.raises(
        UserError, match=r"known: arch:bert-base, arch:bert-large, arch:clip-text-base, arch:gpt2$"
    ):
        resolve_encoder("text", "arch:bart")
