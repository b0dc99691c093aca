"""Sounds: what is read, what encoders get of them, and that cached features equal the encoder itself."""

from __future__ import annotations

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from tests.trainables.data.test_source import columns, write_dataset
from trainables.data import KINDS, SPLITS, EncodedSplit, FeatureCache, PreparedData, open_dataset, prepare
from trainables.errors import UserError
from trainables.step.setting import TrainingSetting
from trainables.towers import InputSizes, load_tower, resolve_encoder

RATE = 16_000
SECONDS = 0.2
SAMPLES = 3_200
FAMILIES = ("wav2vec2", "hubert", "whisper")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PARETOFUSE_CACHE", str(folder))
    return folder


def tone(seconds: float = SECONDS, *, hertz: float = 440, rate: int = RATE) -> np.ndarray:
    """Return the samples (S,) of a tone of half the full loudness."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav(samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    """Return a sound file of samples (S,) or (S, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **options)
    return file.getvalue()


def _prepare(
    folder: Path, encoder: Path, sounds: Any, *, seconds: float = SECONDS, **files: Any
) -> PreparedData:
    content = columns(len(sounds), text=None, image=None, audio=sounds)
    write_dataset(folder, **{**dict.fromkeys(SPLITS, content), **files})
    encoders = {"audio": resolve_encoder("audio", str(encoder))}
    return prepare(open_dataset(str(folder)), encoders, InputSizes(audio_seconds=seconds))


def _inputs(data: PreparedData) -> dict[str, torch.Tensor]:
    split = data.split("train")
    return split.inputs("audio", torch.arange(len(split)))


def test_a_waveform_is_normalised_over_its_real_part(tmp_path: Path, tiny_encoders: dict[str, Path]) -> None:
    sounds = [tone(0.12), tone(0.3), None]
    data = _prepare(
        tmp_path / "d", tiny_encoders["wav2vec2"], [None if s is None else wav(s) for s in sounds]
    )
    inputs = _inputs(data)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [1_920, SAMPLES, SAMPLES]
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    expected = extractor(
        [sounds[0], sounds[1][:SAMPLES]], sampling_rate=RATE, padding="max_length", max_length=SAMPLES
    )
    assert np.abs(inputs["input_values"][:2].numpy() - np.stack(expected["input_values"])).max() < 1e-3
    assert (inputs["input_values"][2] == 0).all()  # silence


def test_no_normalisation_where_the_encoder_had_none(tmp_path: Path, tiny_encoders: dict[str, Path]) -> None:
    encoder = shutil.copytree(tiny_encoders["hubert"], tmp_path / "encoder")
    (encoder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    data = _prepare(tmp_path / "d", encoder, [wav(tone())])
    assert np.abs(_inputs(data)["input_values"][0].numpy() - tone()).max() < 1e-4


def test_a_spectrogram_is_that_of_the_whole_preprocessor(
    tmp_path: Path, tiny_encoders: dict[str, Path]
) -> None:
    sounds = [tone(0.12), tone(), np.zeros(SAMPLES)]
    data = _prepare(tmp_path / "d", tiny_encoders["whisper"], [wav(sound) for sound in sounds])
    inputs = _inputs(data)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [12, 20, 20]
    # That pads to 30 seconds
    expected = WhisperFeatureExtractor(feature_size=8)(sounds, sampling_rate=RATE)["input_features"]
    assert np.abs(inputs["input_features"].numpy() - np.stack(expected)[..., :20]).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_sounds_are_mixed_and_resampled(tmp_path: Path, tiny_encoders: dict[str, Path], rate: int) -> None:
    encoder = shutil.copytree(tiny_encoders["hubert"], tmp_path / "encoder")
    (encoder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    stereo = np.stack([tone(1, rate=rate), np.zeros(rate)], axis=1)
    data = _prepare(tmp_path / "d", encoder, [wav(stereo, rate)])
    found = _inputs(data)["input_values"][0].numpy()
    assert len(found) == SAMPLES
    # Both ends: what follows the part that is kept was decoded, too
    assert np.abs(found - tone() / 2)[100:].max() < 0.01


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_features_equal_the_encoder(
    tmp_path: Path, tiny_encoders: dict[str, Path], family: str, layer: int
) -> None:
    sounds = [wav(tone(0.02 * n + 0.001, hertz=200 * n)) for n in range(1, 12)] + [None, wav(tone(0.0005))]
    data = _prepare(tmp_path / "d", tiny_encoders[family], sounds)
    tower = load_tower(resolve_encoder("audio", str(tiny_encoders[family])))
    rows = torch.randperm(len(sounds), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower.encode(data.split("train").inputs("audio", rows), layer)
    setting = TrainingSetting(audio_seconds=SECONDS)
    of = EncodedSplit(data, "train", tower, "weights", setting, torch.device("cpu"))
    found = FeatureCache(2**30).features(of, layer).of_cells(data.split("train").index["audio"][rows])
    assert (found.tokens - expected.tokens).abs().max() < 1e-5
    assert found.mask is not None
    assert expected.mask is not None
    assert torch.equal(found.mask, expected.mask)
    assert found.mask.any(dim=1).all()
    assert not found.mask.all()
    assert expected.tokens.shape[1] == tower.token_count(0, InputSizes(audio_seconds=SECONDS))


@pytest.mark.parametrize("seconds", [0.128, 0.1999])
@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_have_the_shapes_that_memory_is_predicted_for(
    tmp_path: Path, tiny_encoders: dict[str, Path], family: str, seconds: float
) -> None:
    data = _prepare(tmp_path / "d", tiny_encoders[family], [wav(tone(0.1))], seconds=seconds)
    tower = load_tower(resolve_encoder("audio", str(tiny_encoders[family])))
    predicted = tower.example_inputs(1, InputSizes(audio_seconds=seconds))
    found = _inputs(data)
    assert {name: (t.shape[1:], t.dtype) for name, t in found.items()} == {
        name: (t.shape[1:], t.dtype) for name, t in predicted.items()
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no sound", "text"),
        (b"", "empty, 0 bytes"),
        (wav(tone())[:1000], "a sound that is cut off"),
        (wav(np.zeros(0)), "a sound without samples"),
        (wav(np.full(9, np.nan), subtype="FLOAT"), "a sound with a sample that is not finite"),
        (wav(tone())[:24] + b"\xff\xff\xff\x7f" + wav(tone())[28:], "a sound of an odd rate"),
    ],
)
def test_a_sound_that_cannot_be_read_names_its_row(
    tmp_path: Path, tiny_encoders: dict[str, Path], content: bytes, complaint: str
) -> None:
    with pytest.raises(UserError, match=rf"1 of 8 rows .*: 1 sound: {complaint} \(train row 1\b"):
        _prepare(
            tmp_path / "d",
            tiny_encoders["whisper"],
            [wav(tone())] * 3,
            train=columns(2, text=None, image=None, audio=[wav(tone()), content]),
        )


_FORMATS = ("WAV", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
_WRITTEN = [
    (form, order)
    for form in _FORMATS
    for order in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(form, endian=order)
]


@pytest.mark.parametrize(("form", "order"), _WRITTEN)
def test_a_sound_that_is_cut_off_is_told(form: str, order: str) -> None:
    """Whatever its format, so that it is never a shorter sound."""
    file = io.BytesIO()
    soundfile.write(file, tone(), RATE, format=form, endian=order)
    whole = file.getvalue()
    cut = [whole[: len(whole) * percent // 100] for percent in (3, 50, 99)]
    facts = {"samples": SAMPLES, "bands": None}
    with ThreadPoolExecutor(1) as pool:
        converted = KINDS["audio"].convert(None, facts, pool)([whole, *cut])  # type: ignore[arg-type]
    assert [*converted.bad] == [1, 2, 3]
    assert converted.columns["length"].to_pylist()[0] >= SAMPLES - 1


def test_other_formats_are_refused() -> None:
    """Many files begin like those of MATLAB, whatever they are."""
    file = io.BytesIO()
    soundfile.write(file, tone(), RATE, format="MAT4")
    with ThreadPoolExecutor(1) as pool:
        converted = KINDS["audio"].convert(None, {"samples": SAMPLES, "bands": None}, pool)([file.getvalue()])  # type: ignore[arg-type]
    assert converted.bad[0].reason == "a sound of another format than those that are read"


def test_columns_of_the_datasets_library(tmp_path: Path, tiny_encoders: dict[str, Path]) -> None:
    content = wav(tone())
    struct = [{"bytes": content, "path": "a.wav"}, {"bytes": None, "path": None}]
    data = _prepare(tmp_path / "d", tiny_encoders["wav2vec2"], struct)
    assert data.split("train").present("audio").tolist() == [True, False]
    same = _prepare(tmp_path / "e", tiny_encoders["wav2vec2"], [content, None])
    assert torch.equal(_inputs(data)["input_values"], _inputs(same)["input_values"])
