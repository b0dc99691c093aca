"""Sounds, which are decoded, mixed to one channel, resampled, and brought to one length."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.data.contents import missing_end
from trainables.data.kinds.base import (
    Content,
    Convert,
    Converted,
    Facts,
    Kind,
    UnreadableError,
    decoded,
    file_bytes,
    file_content,
    first_ones,
    holds_files,
    not_decoded,
)
from trainables.reading_settings import ReadingSettings
from trainables.towers import EncoderSource, InputSizes, normalizes_sounds
from trainables.towers.speech import SAMPLE_RATE, WhisperTower, frames_of

if TYPE_CHECKING:
    from trainables.data.source import Dataset

#: Largest 16-bit number, which stands for a sample of 1.
_FULL = 32767
#: Samples between two frames of a spectrogram.
_HOP = SAMPLE_RATE // WhisperTower.FRAME_RATE
#: Seconds that are decoded beyond those that are kept, so that the filter of resampling sees no end.
_BEYOND = 0.1
#: What is read of the formats that the library reads: those whose files tell where they end.
_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
#: Samples a second of sounds that are decoded. A damaged file may state billions.
_RATES = range(1_000, 1_000_000)


class Audio(Kind):
    """Encoded sound files. The blank is silence of full length.

    Encoders of waveforms (wav2vec 2.0, HuBERT) get the samples. They are stored in 16 bits, and normalised on
    loading to a mean of 0 and a deviation of 1, unless the encoder's preprocessor says otherwise. Whisper
    gets a log-mel spectrogram, which is computed once.
    """

    name = "audio"
    noun = "sound"
    expected = "binary (encoded sound files), string (paths of such files), or a struct with bytes or path"
    of_files = True

    def takes(self, column: pa.DataType) -> bool:
        """Return whether values may be stored in a column of this type."""
        return holds_files(column)

    def contents(self, values: pa.Array) -> list[Content]:
        """Return the bytes of the files; a struct has them in its field ``bytes``."""
        return list(map(file_bytes, values.to_pylist()))

    def content(self, value: Any) -> Content:
        """Return the bytes of a sound file that a user gives, see ``file_content``."""
        return file_content(value)

    def facts(
        self,
        dataset: Dataset,
        modality: str,
        encoder: EncoderSource,
        sizes: InputSizes,
        reading: ReadingSettings,
    ) -> Facts:
        """Return the number of samples, and what the encoder gets of them.

        Returns:
            ``samples``; ``bands`` of the spectrogram, or for waveforms None, and then ``normalize`` and the
            ``kernels`` and ``strides`` of the convolutions that turn samples into tokens.
        """
        config = encoder.config
        if issubclass(encoder.family.tower, WhisperTower):
            frames = round(sizes.audio_seconds * WhisperTower.FRAME_RATE)
            return {"samples": frames * _HOP, "bands": int(config.num_mel_bins)}
        return {
            "samples": round(sizes.audio_seconds * SAMPLE_RATE),
            "bands": None,
            "normalize": normalizes_sounds(encoder),
            "kernels": list(config.conv_kernel),
            "strides": list(config.conv_stride),
        }

    def schema(self, facts: Facts) -> pa.Schema:
        """Return the columns of samples or of the spectrogram, and of the length of the real part."""
        number = pa.float32() if facts["bands"] else pa.int16()
        return pa.schema({"values": pa.list_(number, math.prod(_shape(facts))), "length": pa.int32()})

    def convert(self, encoder: EncoderSource, facts: Facts, pool: Executor) -> Convert:
        """Return the function that decodes sounds."""
        from transformers import WhisperFeatureExtractor

        samples, bands = int(facts["samples"]), facts["bands"]
        extractor = WhisperFeatureExtractor(feature_size=bands) if bands else None
        silence = np.zeros(samples, dtype=np.float32)
        decode = partial(_waveform, samples=samples)

        def convert(sounds: list[Content]) -> Converted:
            bad = {}
            lengths = np.zeros(len(sounds), dtype=np.int32)
            padded = np.zeros((len(sounds), samples), dtype=np.float32)
            for place, found in enumerate(decoded(pool, decode, sounds, silence)):
                lengths[place] = len(found.value)
                padded[place, : len(found.value)] = found.value
                if found.bad is not None:
                    bad[place] = found.bad
            if extractor is None:
                values = np.round(padded.clip(-1, 1) * _FULL).astype(np.int16)
            else:
                # More silence at the end, as Whisper's own inputs have, so that no window sees the end
                values = extractor(
                    list(padded), sampling_rate=SAMPLE_RATE, max_length=samples + extractor.n_fft
                )["input_features"]
                values = np.stack(values)[..., : samples // _HOP]
                lengths = np.maximum(lengths // _HOP, 1)
            flat = pa.array(values.ravel())
            columns = {
                "values": pa.FixedSizeListArray.from_arrays(flat, math.prod(_shape(facts))),
                "length": pa.array(lengths.astype(np.int32)),
            }
            return Converted(columns, bad)

        return convert

    def cell_bytes(self, facts: Facts) -> int:
        """Return the bytes of a sound's numbers."""
        return (4 if facts["bands"] else 2) * math.prod(_shape(facts)) + 4

    def views(self, batch: pa.RecordBatch, facts: Facts) -> dict[str, np.ndarray]:
        """Return the samples (C, S) or spectrograms (C, bands, frames), and the lengths (C,)."""
        values = batch["values"].flatten().to_numpy().reshape(batch.num_rows, *_shape(facts))
        return {"values": values, "length": batch["length"].to_numpy()}

    def inputs(self, cells: Mapping[str, np.ndarray], facts: Facts) -> dict[str, Tensor]:
        """Return ``input_values`` (B, S) or ``input_features`` (B, bands, frames), and ``attention_mask``.

        The mask, (B, S) or (B, frames), is True where the sound is real. It is given to encoders, too, that
        were trained without one, because a method must not read padding.
        """
        values = cells["values"]
        real = first_ones(cells["length"], values.shape[-1])
        if facts["bands"]:
            return {"input_features": torch.from_numpy(values), "attention_mask": real}
        waves = values.astype(np.float32) / _FULL
        if facts["normalize"]:
            from transformers import Wav2Vec2FeatureExtractor

            waves = np.stack(Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm(list(waves), real.numpy()))
        return {"input_values": torch.from_numpy(waves), "attention_mask": real}

    def mask(self, cells: Mapping[str, np.ndarray], facts: Facts) -> Tensor:
        """Return a mask (B, T) of the encoder's tokens that is True for what is no padding."""
        lengths, most = torch.from_numpy(cells["length"]).long(), _shape(facts)[-1]
        if facts["bands"]:  # a token for every two frames
            lengths, tokens = (lengths + 1) // 2, (most + 1) // 2
        else:
            layers = facts["kernels"], facts["strides"]
            lengths, tokens = frames_of(lengths, *layers).clamp(min=1), frames_of(most, *layers)
        return first_ones(lengths, tokens)


def _shape(facts: Facts) -> tuple[int, ...]:
    """Return the shape of a cell's values."""
    return (facts["bands"], facts["samples"] // _HOP) if facts["bands"] else (facts["samples"],)


def _waveform(data: bytes, samples: int) -> np.ndarray:
    """Return the first ``samples`` samples of a sound file at ``SAMPLE_RATE``, or all if there are fewer."""
    import soundfile
    from scipy.signal import resample_poly

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in _FORMATS:
                raise UnreadableError("a sound of another format than those that are read", file.format)
            rate = file.samplerate
            if rate not in _RATES:
                raise UnreadableError("a sound of an odd rate", f"{rate:,} samples a second")
            needed = math.ceil((samples / SAMPLE_RATE + _BEYOND) * rate)
            channels = file.read(needed, dtype="float32", always_2d=True)
            whole = len(channels) >= min(needed, file.frames)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise not_decoded(data, "sound", error) from error
    if not whole or missing_end(data):
        raise UnreadableError("a sound that is cut off", missing_end(data) or "")
    if not len(channels):
        raise UnreadableError("a sound without samples")
    if not np.isfinite(channels).all():
        raise UnreadableError("a sound with a sample that is not finite")
    common = math.gcd(rate, SAMPLE_RATE)
    wave = resample_poly(channels.mean(axis=1), SAMPLE_RATE // common, rate // common)
    return np.asarray(wave[:samples], dtype=np.float32)
