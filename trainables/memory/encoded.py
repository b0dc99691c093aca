"""Output and memory of an encoder's frozen layers, recorded once so that predictions need not run them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from trainables.memory.storage_log import GIVEN, StorageLog, Stretch
from trainables.step.setting import TrainingSetting
from trainables.towers import ModalityInput, Sequence, Tower


@dataclass(frozen=True)
class Encoded:
    """Shape and layout of the tokens that the lowest frozen layers of an encoder return.

    Attributes:
        layer: Number of layers that were run.
        stretch: What these layers allocate and free, from the embedded tokens to theirs.
        storage: Bytes of the tokens' storage.
        size: Shape of the tokens.
        stride: Stride of the tokens.
        offset: Offset of the tokens in the storage.
        dtype: Data type of the tokens.
        masked: Whether there is a padding mask.
    """

    layer: int
    stretch: Stretch
    storage: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    masked: bool

    @classmethod
    def of(cls, sequence: Sequence, stretch: Stretch) -> Encoded:
        """Return the description of a sequence and of how it was computed."""
        tokens = sequence.tokens
        return cls(
            sequence.layer,
            stretch,
            tokens.untyped_storage().nbytes(),
            tuple(tokens.shape),
            tokens.stride(),
            int(tokens.storage_offset()),
            tokens.dtype,
            sequence.mask is not None,
        )

    def computed(self, before: Sequence) -> Sequence:
        """Return the sequence that the layers would make of the embedded one."""
        storage = torch.empty(self.storage // self.dtype.itemsize, dtype=self.dtype)
        tokens = storage.as_strided(self.size, self.stride, self.offset)
        return replace(before, tokens=tokens, layer=self.layer)

    def cached(self, rows: int) -> Sequence:
        """Return the sequence as a cache would, which holds float32."""
        mask = torch.zeros(rows, self.size[1], dtype=torch.bool) if self.masked else None
        return Sequence(torch.empty(rows, *self.size[1:]), mask, self.layer)


def encoded_layers(tower: Tower, setting: TrainingSetting) -> list[Encoded]:
    """Return the output and memory of an encoder after 0, 1, … layers, run without gradient.

    Args:
        tower: The encoder, entirely frozen.
        setting: How steps are run.
    """
    rows = setting.batch_size // setting.gradient_accumulation
    inputs = tower.example_inputs(rows, setting.sizes)
    with torch.no_grad(), setting.autocast(torch.device("cpu")), StorageLog() as log:
        log.note("weights", [*tower.parameters(), *tower.buffers()])
        log.note("activations", inputs.values())
        sequence = tower.encode(inputs, 0)
        embedded, start = log.number(sequence.tokens), log.mark()
        found = [Encoded.of(sequence, Stretch([], GIVEN))]
        for stop in range(1, tower.depth + 1):
            sequence = tower.encode(sequence, stop)
            found.append(Encoded.of(sequence, log.stretch(start, embedded, sequence.tokens)))
    return found


def encode_known(
    tower: Tower, encoded: list[Encoded], log: StorageLog, inputs: ModalityInput, stop: int
) -> Sequence:
    """Return the result of ``Tower.encode`` without running frozen layers whose memory is known.

    Args:
        tower: The encoder.
        encoded: The encoder's ``encoded_layers``.
        log: Records what the layers would have allocated and freed.
        inputs: See ``Tower.encode``.
        stop: See ``Tower.encode``.
    """
    if torch.is_grad_enabled() or isinstance(inputs, Sequence) or stop == 0:
        return Tower.encode(tower, inputs, stop)
    embedded = Tower.encode(tower, inputs, 0)
    sequence = encoded[stop].computed(embedded)
    log.insert(encoded[stop].stretch, embedded.tokens, sequence.tokens)
    return sequence
