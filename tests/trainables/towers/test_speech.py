"""Speech encoders: all layouts of their checkpoints, frames, and what the library does in training only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.errors import UserError
from trainables.testing.tiny import AUDIO_FAMILIES, SIZES, random_inputs, tiny_model
from trainables.towers import FAMILIES, InputSizes, Tower, load_tower, resolve_encoder
from trainables.towers.speech import SAMPLE_RATE, Wav2Vec2Tower, WhisperTower

WAVEFORM = {
    "wav2vec2": (hf.Wav2Vec2Config, hf.Wav2Vec2Model),
    "hubert": (hf.HubertConfig, hf.HubertModel),
}


def _tower(family: str, **changes: object) -> Wav2Vec2Tower:
    config_class, model_class = WAVEFORM[family]
    torch.manual_seed(0)
    config = {**tiny_model(family).config.to_dict(), "attn_implementation": "eager", **changes}
    return Wav2Vec2Tower("audio", model_class(config_class(**config)))


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("family", WAVEFORM)
def test_every_layout_equals_the_library(family, norm, stable) -> None:
    tower = _tower(family, feat_extract_norm=norm, do_stable_layer_norm=stable)
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(1))
    theirs = tower.model(**inputs).last_hidden_state
    for skip in (False, True):
        tower.skip_unused = skip
        sequence = tower.encode(inputs, tower.depth - 1)
        ours = tower.finish(tower.layer(tower.depth - 1, sequence, tokens=slice(0, 4)))
        assert (ours.tokens - theirs[:, :4])[ours.mask].abs().max() < 1e-5


def test_adapters_in_the_layers_are_run() -> None:
    tower = _tower("wav2vec2", do_stable_layer_norm=True, adapter_attn_dim=4)
    start = tower.embed(random_inputs(tower, 3, torch.Generator().manual_seed(1)))
    plain = tower.layer(0, start, tokens=slice(0, 2))
    tower.skip_unused = True
    assert torch.allclose(tower.layer(0, start, tokens=slice(0, 2)).tokens, plain.tokens, atol=1e-6)


@pytest.mark.parametrize("family", WAVEFORM)
def test_counts_real_frames_as_the_library_does(family) -> None:
    tower = _tower(family)
    lengths = torch.tensor([400, 1000, 1001, 2559, 2560, 3200])
    mask = torch.arange(3200) < lengths[:, None]
    sequence = tower.embed({"input_values": torch.randn(6, 3200), "attention_mask": mask})
    expected = tower.model._get_feat_extract_output_lengths(lengths)
    assert torch.equal(sequence.mask.sum(dim=1), expected)
    assert sequence.tokens.shape[1] == expected[-1] == tower.token_count(0, SIZES)


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_the_mask_is_optional(family) -> None:
    tower = FAMILIES[family].tower("audio", tiny_model(family))
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(1), padded=False)
    masked = tower.pooled(inputs)
    del inputs["attention_mask"]
    assert tower.embed(inputs).mask is None
    assert torch.allclose(tower.pooled(inputs), masked, atol=1e-6)


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_the_vector_is_the_mean_of_real_frames(family) -> None:
    tower = FAMILIES[family].tower("audio", tiny_model(family))
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(1))
    last = tower.finish(tower.encode(inputs, tower.depth))
    real = int(last.mask[1].sum())
    assert 0 < real < last.tokens.shape[1]
    assert torch.allclose(tower.pooled(inputs)[1], last.tokens[1, :real].mean(dim=0), atol=1e-6)


def test_a_sound_shorter_than_a_frame_counts_as_one() -> None:
    tower = _tower("hubert")
    mask = torch.arange(3200) < torch.tensor([[3], [0]])
    inputs = {"input_values": torch.randn(2, 3200), "attention_mask": mask}
    assert tower.embed(inputs).mask.sum(dim=1).tolist() == [1, 1]
    assert tower.pooled(inputs).isfinite().all()


@pytest.mark.parametrize("family", WAVEFORM)
def test_nothing_is_masked_or_skipped_at_random_in_training(family) -> None:
    rates = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
    tower = _tower(family, **dict.fromkeys(rates, 0.0), mask_time_prob=0.9, mask_time_length=2, layerdrop=0.9)
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(1))
    evaluated = tower.pooled(inputs)
    assert torch.equal(tower.train().pooled(inputs), evaluated)
    assert not any("masked_spec" in name for name, _ in tower.named_parameters())


def test_whisper_takes_short_sounds(tmp_path: Path) -> None:
    model = tiny_model("whisper")
    model.save_pretrained(tmp_path)
    tower = load_tower(resolve_encoder("audio", str(tmp_path)))
    inputs = random_inputs(tower, 3, torch.Generator(), padded=False, sizes=InputSizes(audio_seconds=0.12))
    assert inputs["input_features"].shape == (3, 8, 12)
    # The library's encoder, its table of positions cut: that is all that keeps it from shorter inputs
    encoder = model.encoder
    encoder.config.max_source_positions = 6
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:6])
    theirs = encoder(inputs["input_features"]).last_hidden_state
    ours = tower.finish(tower.encode(inputs, tower.depth)).tokens
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_whisper_is_the_encoder_of_any_checkpoint(tmp_path: Path) -> None:
    model = tiny_model("whisper")
    whole = hf.WhisperForConditionalGeneration(model.config)
    whole.model = model
    whole.save_pretrained(tmp_path)
    tower = load_tower(resolve_encoder("audio", str(tmp_path)))
    assert set(dict(tower.model.named_parameters())) == {
        name for name, p in model.encoder.named_parameters() if p.requires_grad
    }
    theirs = model.encoder.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in tower.model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "depth", "width", "parameters", "tokens"),
    [
        ("wav2vec2-base", 12, 768, 94_371_712, 249),  # 5 s
        ("hubert-base", 12, 768, 94_371_712, 249),
        ("whisper-tiny", 4, 384, 8_208_384, 250),
        ("whisper-base", 6, 512, 20_590_592, 250),
    ],
)
def test_architectures(name, depth, width, parameters, tokens) -> None:
    source = resolve_encoder("audio", f"arch:{name}")
    with FakeTensorMode():
        tower: Tower = load_tower(source, weights=False)
    assert (source.depth, source.width, tower.token_count(0, InputSizes())) == (depth, width, tokens)
    # All that the library's encoder has but the embedding that only SpecAugment uses
    held = sum(t.numel() for t in (*tower.parameters(), *tower.buffers()))
    assert held == parameters - (768 if isinstance(tower, Wav2Vec2Tower) else 0)


@pytest.mark.parametrize(
    ("name", "seconds", "accepted"),
    [
        ("wav2vec2-base", 0.024, "at least 0.025 seconds"),
        ("hubert-base", 0.0249, "at least 0.025 seconds"),
        ("whisper-tiny", 30.5, "0.01 to 30 seconds"),
        ("whisper-tiny", 0.004, "0.01 to 30 seconds"),
    ],
)
def test_lengths_are_checked(name, seconds, accepted) -> None:
    source = resolve_encoder("audio", f"arch:{name}")
    for fine in (0.025, 30):
        source.check_sizes(InputSizes(audio_seconds=fine))
    with pytest.raises(UserError, match=f"--audio-seconds {seconds}: encoder 'arch:{name}' takes {accepted}"):
        source.check_sizes(InputSizes(audio_seconds=seconds))


def test_one_frame_is_the_least(tmp_path: Path) -> None:
    tower = _tower("wav2vec2")
    shortest, _ = tower.seconds_of(tower.model.config)
    assert tower.token_count(0, InputSizes(audio_seconds=shortest)) == 1
    assert tower.token_count(0, InputSizes(audio_seconds=shortest - 1 / SAMPLE_RATE)) == 0


def test_whisper_positions_are_constant() -> None:
    tower = WhisperTower("audio", tiny_model("whisper"))
    assert not any("embed_positions" in name for name, _ in tower.fork(trained=True).named_parameters())
