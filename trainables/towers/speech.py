"""Speech encoders: wav2vec 2.0 and HuBERT on waveforms, Whisper's encoder on spectrograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.towers.base import Architecture, Family, InputSizes, PrefixTokens, Sequence, Tower

#: Sample rate in Hz that all these encoders were trained with.
SAMPLE_RATE = 16_000


def frames_of(samples: Any, kernels: Iterable[int], strides: Iterable[int]) -> Any:
    """Return how many frames convolutions make of a number of samples, which may be a tensor.

    Args:
        samples: Number of samples.
        kernels: Size of each convolution's kernel.
        strides: Step of each convolution.
    """
    for kernel, stride in zip(kernels, strides, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


class SpeechTower(Tower):
    """Base of the speech towers. By default, the vector of a sound is the mean of its real frames.

    SpecAugment and LayerDrop, which the library applies in training, are left out.
    """

    KIND = "audio"
    FEED_FORWARD_NORM = "final_layer_norm"
    POOLINGS = ("mean", "last", "max")

    @classmethod
    def seconds_of(cls, config: Any) -> tuple[float, float | None]:
        """Return the shortest and the longest accepted sound in seconds. None means no upper limit."""
        raise AttributeError(f"{cls.__name__} does not define the sounds it takes")


class Wav2Vec2Tower(SpeechTower):
    """wav2vec 2.0 and HuBERT; tokens are frames, 20 ms apart in all released models.

    Inputs are ``input_values`` (B, samples), a waveform at 16 kHz, and optionally ``attention_mask``
    (B, samples), True where the sound is real. The base sizes have a group norm in the feature encoder. As in
    the library, its statistics include the padding, so that the amount of padding slightly changes the
    frames.
    """

    MATRICES = {
        "query": "attention.q_proj",
        "key": "attention.k_proj",
        "value": "attention.v_proj",
        "output": "attention.out_proj",
        "up": "feed_forward.intermediate_dense",
        "down": "feed_forward.output_dense",
    }
    SUBLAYERS = {"attention": "dropout", "feed_forward": "feed_forward.output_dropout"}
    EMBEDDINGS: ClassVar[tuple[str, ...]] = (
        "feature_extractor",
        "feature_projection",
        "encoder.pos_conv_embed",
    )

    def __init__(self, modality: str, model: Any) -> None:
        # Only SpecAugment uses this parameter. In a fine-tuned encoder it would count as trainable but
        # never receive a gradient.
        if hasattr(model, "masked_spec_embed"):
            del model.masked_spec_embed
        # Some checkpoints have an adapter after the encoder, for other tasks
        if hasattr(model, "adapter"):
            model.adapter = None
        # Otherwise the library computes the waveform's gradient in training, for checkpointing
        model.feature_extractor._requires_grad = False
        super().__init__(modality, model)

    @classmethod
    def seconds_of(cls, config: Any) -> tuple[float, float | None]:
        """Return the length of one frame in seconds, and None: there is no upper limit."""
        samples = 1
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples / SAMPLE_RATE, None

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.encoder.layers

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Extract frames from the waveform, project them and add the convolutional positions."""
        encoder = self.model.encoder
        frames = self.model.feature_extractor(inputs["input_values"]).transpose(1, 2)
        tokens = self.model.feature_projection(frames)
        # wav2vec 2.0 returns the projection and the frames, HuBERT only the projection
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        mask = None
        if "attention_mask" in inputs:
            lengths = self._frames(inputs["attention_mask"].sum(dim=1)).clamp(min=1)
            mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
            tokens = tokens.masked_fill(~mask[..., None], 0)
        tokens = tokens + encoder.pos_conv_embed(tokens)
        if not self.norms_first:
            tokens = encoder.layer_norm(tokens)
        return Sequence(encoder.dropout(tokens), mask, layer=0)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm, which only models have whose layers normalise their input."""
        if not self.norms_first:
            return sequence
        return replace(sequence, tokens=self.model.encoder.layer_norm(sequence.tokens))

    @property
    def norms_first(self) -> bool:
        """Return what the model's settings say."""
        return bool(self.model.config.do_stable_layer_norm)

    def _frames(self, samples: Any) -> Any:
        """Return the number of frames for a number of samples, which may be a tensor."""
        return frames_of(samples, self.model.config.conv_kernel, self.model.config.conv_stride)

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, kept = layer.attention, tokens[:, keep]
        seen = layer.layer_norm(tokens) if self.norms_first else tokens
        context = self._attend(
            attention.q_proj(seen[:, keep]),
            attention.k_proj(seen),
            attention.v_proj(seen),
            bias,
            attention.num_heads,
            attention.dropout if layer.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        kept = kept + layer.dropout(attention.out_proj(context))
        if not self.norms_first:
            kept = layer.layer_norm(kept)
            return layer.final_layer_norm(kept + layer.feed_forward(kept))
        kept = kept + layer.feed_forward(layer.final_layer_norm(kept))
        return kept if layer.adapter_layer is None else kept + layer.adapter_layer(kept)

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of frames."""
        return self._frames(round(sizes.audio_seconds * SAMPLE_RATE))

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return a waveform and a mask without padding, both (B, samples)."""
        shape = (batch_size, round(sizes.audio_seconds * SAMPLE_RATE))
        return {
            "input_values": torch.zeros(shape),
            "attention_mask": torch.ones(shape, dtype=torch.bool),
        }


class WhisperTower(SpeechTower):
    """The encoder of Whisper, with one token per 20 ms. Sounds may be shorter than its 30 s.

    Inputs are ``input_features`` (B, bands, frames), the log-mel spectrogram with one frame per 10 ms, and
    optionally ``attention_mask`` (B, frames), True where the sound is real. Without a mask all frames count
    as real, as in the library, which supports no mask. With a mask, padding does not change the result.
    """

    MATRICES = {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.out_proj",
        "up": "fc1",
        "down": "fc2",
    }
    SUBLAYERS = {"attention": "self_attn.out_proj", "feed_forward": "fc2"}
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("conv1", "conv2", "embed_positions")

    #: Frames per second of the spectrogram.
    FRAME_RATE: ClassVar[int] = 100

    def __init__(self, modality: str, model: Any) -> None:
        encoder = model.encoder
        # The positions are sinusoids, which the library never trains
        positions = encoder.embed_positions
        weight = positions.weight.detach()
        del positions.weight
        positions.register_buffer("weight", weight)
        super().__init__(modality, encoder)

    @classmethod
    def seconds_of(cls, config: Any) -> tuple[float, float | None]:
        """Return the length of one frame and that of two frames per position, in seconds."""
        return 1 / cls.FRAME_RATE, 2 * config.max_source_positions / cls.FRAME_RATE

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        return self.model.layers

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Halve the frame rate by two convolutions and add the first positions."""
        model, frames = self.model, inputs["input_features"]
        mask = inputs.get("attention_mask")
        frames = F.gelu(model.conv1(_silenced(frames, mask)))
        frames = F.gelu(model.conv2(_silenced(frames, mask)))
        tokens = frames.transpose(1, 2) + model.embed_positions.weight[: frames.shape[2]]
        tokens = F.dropout(tokens, p=model.dropout, training=model.training)
        return Sequence(tokens, None if mask is None else mask[:, ::2].bool(), layer=0)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply the final LayerNorm."""
        return replace(sequence, tokens=self.model.layer_norm(sequence.tokens))

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        attention, seen = layer.self_attn, layer.self_attn_layer_norm(tokens)
        context = self._attend(
            attention.q_proj(seen[:, keep]),
            attention.k_proj(seen),
            attention.v_proj(seen),
            bias,
            attention.num_heads,
            attention.dropout if layer.training else 0.0,
            keep=keep,
            prefix_tokens=prefix_tokens,
        )
        kept = tokens[:, keep] + F.dropout(attention.out_proj(context), layer.dropout, layer.training)
        wide = layer.activation_fn(layer.fc1(layer.final_layer_norm(kept)))
        wide = F.dropout(wide, layer.activation_dropout, layer.training)
        return kept + F.dropout(layer.fc2(wide), layer.dropout, layer.training)

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return one token for every two frames of the spectrogram, rounded up."""
        return (self._spectrogram_frames(sizes) + 1) // 2

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return a spectrogram (B, bands, frames) and a mask without padding (B, frames)."""
        frames = self._spectrogram_frames(sizes)
        return {
            "input_features": torch.zeros(batch_size, self.model.config.num_mel_bins, frames),
            "attention_mask": torch.ones(batch_size, frames, dtype=torch.bool),
        }

    def _spectrogram_frames(self, sizes: InputSizes) -> int:
        return round(sizes.audio_seconds * self.FRAME_RATE)


def _silenced(frames: Tensor, mask: Tensor | None) -> Tensor:
    """Return frames (B, C, T) with zeros where the mask (B, T) is False.

    The convolutions then see the same zeros as after the end of a sound without padding.
    """
    return frames if mask is None else frames.masked_fill(~mask.bool()[:, None], 0)


FAMILIES: dict[str, Family] = {
    "wav2vec2": Family(Wav2Vec2Tower, "wav2vec2.modeling_wav2vec2.Wav2Vec2Model"),
    "hubert": Family(Wav2Vec2Tower, "hubert.modeling_hubert.HubertModel"),
    "whisper": Family(WhisperTower, "whisper.modeling_whisper.WhisperModel"),
}

ARCHITECTURES: dict[str, Architecture] = {
    "wav2vec2-base": Architecture("wav2vec2", "wav2vec 2.0 base (94 M), 12 layers, width 768"),
    "hubert-base": Architecture("hubert", "HuBERT base (94 M), 12 layers, width 768"),
    "whisper-tiny": Architecture("whisper", "encoder of Whisper tiny (8 M), 4 layers, width 384"),
    "whisper-base": Architecture(
        "whisper",
        "encoder of Whisper base (20 M), 6 layers, width 512",
        {
            "d_model": 512,
            "encoder_layers": 6,
            "encoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_layers": 6,
            "decoder_attention_heads": 8,
            "decoder_ffn_dim": 2048,
        },
    ),
}
