"""Encoders of extracted features: names, initial weights, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory.memo import PredictionMemo
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import random_inputs
from trainables.towers import InputSizes, load_tower, resolve_encoder

NAME = "features:dim=6,width=8,depth=2,heads=2,max_length=20"


def test_a_name_says_the_size() -> None:
    source = resolve_encoder("landmarks", "features:dim=74,width=40,depth=3,heads=8")
    tower = load_tower(source)
    assert (source.depth, source.width, tower.depth, tower.width) == (3, 40, 3, 40)
    assert tower.embed(random_inputs(tower, 2, torch.Generator())).tokens.shape == (2, 11, 40)
    assert tower.modality == "landmarks"
    assert (resolve_encoder("prosody", "features:dim=5").width, source.image_size) == (64, None)


def test_the_same_name_is_the_same_encoder() -> None:
    random = torch.get_rng_state()
    first, again, other = (load_tower(resolve_encoder("a", n)) for n in (NAME, NAME, f"{NAME},seed=1"))
    assert torch.equal(torch.get_rng_state(), random)
    weights = [tower.model.embeddings.projection.weight for tower in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    fingerprints = [resolve_encoder("a", n).fingerprint() for n in (NAME, NAME, f"{NAME},seed=1")]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert resolve_encoder("a", NAME).address == NAME


def test_tells_sequences_apart_before_any_training() -> None:
    tower = load_tower(resolve_encoder("a", "features:dim=6"))
    inputs = random_inputs(tower, 4, torch.Generator().manual_seed(0), padded=False)
    vectors = tower.pooled(inputs)
    assert vectors.std(dim=0).mean() > 0.02
    swapped = {**inputs, "features": inputs["features"].flip(1)}
    assert not torch.allclose(tower.pooled(swapped), vectors, atol=1e-3)


def test_random_weights_train_and_loaded_ones_are_frozen(tmp_path: Path) -> None:
    load_tower(resolve_encoder("a", NAME)).model.save_pretrained(tmp_path)
    sources = {name: {m: resolve_encoder(m, name) for m in ("a", "b")} for name in (NAME, str(tmp_path))}
    reports = {}
    for name, encoders in sources.items():
        towers = {m: load_tower(encoder) for m, encoder in encoders.items()}
        method = build_method("wander", {}, MethodContext(towers, 3, InputSizes(feature_length=10)))
        assert method.prefix_layers() == ({} if name == NAME else {"a": 2, "b": 2})
        # One store for both: the same settings, one to train and one frozen
        memo = PredictionMemo(tmp_path / "memo")
        setting = TrainingSetting(target="cpu", batch_size=4, feature_length=10)
        reports[name] = MemoryPredictor(encoders, classification(3), setting, memo).predict("wander", {})
        assert reports[name].trainable_parameters == method.trainable_parameter_count()
    new, frozen = reports.values()
    encoder = sum(p.numel() for p in towers["a"].parameters())
    assert new.trainable_parameters == frozen.trainable_parameters + 2 * encoder
    assert new.checkpoint > frozen.checkpoint
    assert new.optimizer - frozen.optimizer >= 8 * 2 * encoder  # AdamW's two numbers a weight, of 4 bytes
    assert new.activations > frozen.activations


@pytest.mark.parametrize("shard", ["5GB", "4KB"])
def test_save_and_load(tmp_path: Path, shard) -> None:
    saved = load_tower(resolve_encoder("a", NAME))
    torch.nn.init.normal_(saved.model.embeddings.cls_token)
    saved.model.save_pretrained(tmp_path, max_shard_size=shard)
    source = resolve_encoder("b", str(tmp_path))
    loaded = load_tower(source, attention="sdpa")
    inputs = random_inputs(saved, 3, torch.Generator().manual_seed(0))
    assert torch.allclose(loaded.pooled(inputs), saved.pooled(inputs), atol=1e-6)
    assert source.address == str(tmp_path)
    assert source.fingerprint() != resolve_encoder("a", NAME).fingerprint()


def test_trains_and_its_memory_is_known() -> None:
    sources = {m: resolve_encoder(m, NAME) for m in ("a", "b")}
    method = build_method("late_concat", {}, MethodContext({m: load_tower(s) for m, s in sources.items()}, 2))
    setting = TrainingSetting(feature_length=20)
    report = MemoryPredictor(sources, classification(2), setting).predict("late_concat", {})
    assert report.trainable_parameters == method.trainable_parameter_count()


def test_takes_sequences_up_to_its_length() -> None:
    tower = load_tower(resolve_encoder("text", NAME))
    for length, taken in ((5, 5), (20, 20), (21, 20)):
        sizes = InputSizes(feature_length=length)
        assert tower.example_inputs(2, sizes)["features"].shape[1] == taken
        assert tower.token_count(0, sizes) == taken + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "say how large a feature vector is"),
        ("width=8", "say how large a feature vector is"),
        ("dim=6,size=8", "unknown option 'size'; known: dim, width"),
        ("dim=6,", None),
        ("dim=six", "dim=six must be at least 1"),
        ("dim=0", "dim=0 must be at least 1"),
        ("dim", "dim= must be at least 1"),
        ("dim=6,width=10,heads=4", "width=10 must be a multiple of heads=4"),
        ("dim=6,dropout=1", "dropout=1 must be 0 to less than 1"),
        ("dim=6,dropout=nan", "dropout=nan must be 0 to less than 1"),
        ("dim=6,seed=9223372036854775808", "must be 0 to less than 9223372036854775808"),
    ],
)
def test_names_are_checked(options, message) -> None:
    if message is None:
        resolve_encoder("a", f"features:{options}")
        return
    with pytest.raises(UserError, match=message):
        resolve_encoder("a", f"features:{options}")
