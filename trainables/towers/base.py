"""An encoder taken apart into steps: embed, layer 0 … depth-1, finish, pool."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: Positions of a sequence: every one, or none.
ALL, NONE = slice(None), slice(0, 0)


@dataclass(frozen=True)
class InputSizes:
    """Sizes of one sample's inputs; a tower takes what concerns its modality.

    Attributes:
        text_length: Tokens of a text, padding included.
        image_size: Side of the square image in pixels.
        audio_seconds: Length of a sound at 16 kHz, padding included.
        feature_length: Vectors of a sequence of extracted features, padding included.
    """

    text_length: int = 128
    image_size: int = 224
    audio_seconds: float = 5.0
    feature_length: int = 50


@dataclass(frozen=True)
class Sequence:
    """Tokens on their way through a tower.

    Attributes:
        tokens: Hidden states of the encoder's own tokens, shape (B, T, D).
        mask: True where a token is real, shape (B, T); None where there is no padding.
        layer: How many layers the tokens have been through, i.e. the index of the next one.
        prompts: Tokens that a method added, shape (B, M, D), never padding; None where there are none.
            Where they stand among the others is the tower's affair.
    """

    tokens: Tensor
    mask: Tensor | None
    layer: int
    prompts: Tensor | None = None

    def prompted(self, *prompts: Tensor) -> Sequence:
        """Return the sequence with prompts (B, M, D) added after those it has."""
        present = [] if self.prompts is None else [self.prompts]
        added = [*present, *prompts]
        return replace(self, prompts=torch.cat(added, dim=1)) if added else self

    @property
    def n_prompts(self) -> int:
        """Number of prompts M."""
        return 0 if self.prompts is None else self.prompts.shape[1]


#: What a method receives for one modality: the encoder's own inputs (batch first), or a sequence that
#: has already been through the encoder's lower layers.
ModalityInput = Mapping[str, Tensor] | Sequence

#: Keys and values, both (B, P, D), that every token of a layer attends to beside the others.
PrefixTokens = tuple[Tensor, Tensor]


#: Names of the parts of a model that are at work, innermost last.
_PARTS: list[str] = []


@contextmanager
def part(name: str) -> Iterator[None]:
    """Say which part of a model is at work, for those who count what it allocates."""
    _PARTS.append(name)
    try:
        yield
    finally:
        _PARTS.pop()


def current_part() -> str | None:
    """Return the innermost part at work."""
    return _PARTS[-1] if _PARTS else None


class Tower(nn.Module):
    """A pretrained unimodal transformer as steps that a fusion method can interleave with its own.

    Running ``embed``, every ``layer`` and ``finish`` equals the last hidden state of the Hugging Face model.
    Subclasses say how a family embeds its input and where its layers are.

    Args:
        modality: The modality the tower encodes.
        model: The Hugging Face model, without pooling head.

    Attributes:
        skip_unused: Do not compute outputs that the caller of ``layer`` does not keep. Off, a layer runs as
            the library runs it.
        gradient_checkpointing: Keep only the inputs of layers for the backward pass, which runs them again.
    """

    #: The positions that ``pool`` reads.
    POOLED: ClassVar[slice] = slice(0, 1)

    #: Paths, inside a layer, of its weight matrices: query, key, value, output (of the attention), up and
    #: down (of the feed-forward network). A family with one matrix for the three has query_key_value.
    MATRICES: ClassVar[Mapping[str, str]] = {}

    #: Paths, inside a layer, of the module whose output is added to the residual stream, for ``attention``
    #: and ``feed_forward``.
    SUBLAYERS: ClassVar[Mapping[str, str]] = {}

    #: Paths, inside the model, of what ``embed`` alone uses.
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("embeddings",)

    #: Whether prompts stand in front of the tokens: they must where the attention is causal.
    PROMPTS_FIRST: ClassVar[bool] = False

    def __init__(self, modality: str, model: nn.Module) -> None:
        super().__init__()
        self.modality = modality
        self.model: Any = model
        self.skip_unused = False
        self.gradient_checkpointing = False
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def depth_of(cls, config: Any) -> int:
        """Return the number of layers that a Hugging Face configuration stands for."""
        return int(config.num_hidden_layers)

    @classmethod
    def width_of(cls, config: Any) -> int:
        """Return the hidden size of the last layer that a Hugging Face configuration stands for."""
        return int(config.hidden_size)

    @property
    def width(self) -> int:
        """Hidden size D of the tower's output."""
        return self.width_of(self.model.config)

    def layer_width(self, index: int) -> int:
        """Hidden size of the prompts that a layer takes; the same in all layers of most families."""
        return self.width

    @property
    def depth(self) -> int:
        """Number of transformer layers."""
        return len(self.layers)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        raise AttributeError(f"{type(self).__name__} does not define its layers")

    def prefix_modules(self, stop: int) -> list[nn.Module]:
        """Return what is of no use to a sequence that has been through ``stop`` layers."""
        return [*(self.model.get_submodule(path) for path in self.EMBEDDINGS), *self.layers[:stop]]

    def fork(self, *, trained: bool = False, matrices: torch.dtype | None = None) -> Self:
        """Return a tower whose modules can be changed without changing this one.

        Args:
            trained: Copy the weights too and let them train; otherwise they are shared, and frozen.
            matrices: Store weights of two or more dimensions as this type; the others, of norms and biases,
                are a thousandth of an encoder and stay as they are.
        """
        # Tensors without content cannot be copied by copy.deepcopy, only cloned.
        memo: dict[int, Any] = {id(self.model.config): self.model.config}  # nobody changes it
        for parameter in self.parameters():
            memo[id(parameter)] = parameter
            if trained:
                memo[id(parameter)] = nn.Parameter(parameter.detach().clone())
            elif matrices is not None and parameter.ndim > 1:
                memo[id(parameter)] = nn.Parameter(parameter.detach().to(matrices), requires_grad=False)
        for buffer in self.buffers():
            memo[id(buffer)] = buffer.clone() if trained else buffer
        return copy.deepcopy(self, memo)

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Turn raw inputs into the tokens before layer 0.

        Args:
            inputs: The encoder's inputs, batch first; their names depend on the modality.
        """
        raise AttributeError(f"{type(self).__name__} does not define its embedding")

    def layer(
        self,
        index: int,
        sequence: Sequence,
        *,
        tokens: slice = ALL,
        prompts: slice = ALL,
        prefix_tokens: PrefixTokens | None = None,
        blind: bool | slice = False,
    ) -> Sequence:
        """Run one transformer layer over the tokens and prompts of a sequence.

        Args:
            index: The layer, 0 for the lowest.
            sequence: Tokens (B, T, D) and prompts (B, M, D).
            tokens: Positions of the tokens whose outputs are wanted.
            prompts: Positions of the prompts whose outputs are wanted. With ``skip_unused`` outputs that are
                not wanted are not computed (they still serve as keys and values), which changes nothing but
                the time.
            prefix_tokens: More keys and values, visible to every token.
            blind: Positions of prompts that attend to one another only, or True for all prompts; everything
                else attends to all.

        Returns:
            The sequence after the layer, with the positions wanted.
        """

        def run() -> Sequence:
            with part(f"{self.modality} layer {index}"):
                return self._run_layer(
                    index, sequence, tokens=tokens, prompts=prompts, prefix_tokens=prefix_tokens, blind=blind
                )

        if self.gradient_checkpointing and torch.is_grad_enabled():
            after: Sequence = checkpoint(run, use_reentrant=False)
            return after
        return run()

    def _run_layer(
        self,
        index: int,
        sequence: Sequence,
        *,
        tokens: slice,
        prompts: slice,
        prefix_tokens: PrefixTokens | None,
        blind: bool | slice,
    ) -> Sequence:
        """Do what ``layer`` says."""
        n_tokens, n_prompts = sequence.tokens.shape[1], sequence.n_prompts
        token_start, prompt_start = (n_prompts, 0) if self.PROMPTS_FIRST else (0, n_tokens)
        kept_tokens = _shifted(tokens, n_tokens, token_start)
        kept_prompts = _shifted(prompts, n_prompts, prompt_start)
        spans = [span for span in (kept_tokens, kept_prompts) if span.start < span.stop]
        everything = slice(0, n_tokens + n_prompts)
        window = everything
        if self.skip_unused and spans:
            window = slice(min(span.start for span in spans), max(span.stop for span in spans))
        joined = self._join(sequence)
        bias = self._bias(sequence, prefix_tokens, blind=blind)
        if prefix_tokens is None and window == everything:
            out = self._whole_layer(self.layers[index], joined, bias)
        else:
            out = self._layer_at(self.layers[index], joined, window, bias, prefix_tokens)
        return Sequence(
            out[:, kept_tokens.start - window.start : kept_tokens.stop - window.start],
            None if sequence.mask is None else sequence.mask[:, tokens],
            index + 1,
            out[:, kept_prompts.start - window.start : kept_prompts.stop - window.start]
            if kept_prompts.start < kept_prompts.stop
            else None,
        )

    def _join(self, sequence: Sequence) -> Tensor:
        """Return prompts and tokens in the order in which the layer sees them, shape (B, T + M, D)."""
        if sequence.prompts is None:
            return sequence.tokens
        pair = (sequence.tokens, sequence.prompts)
        return torch.cat(pair[::-1] if self.PROMPTS_FIRST else pair, dim=1)

    def _bias(
        self, sequence: Sequence, prefix_tokens: PrefixTokens | None, *, blind: bool | slice
    ) -> Tensor | None:
        """Return what is added to the attention scores, broadcastable to (B, heads, queries, keys).

        It never depends on the data (an all-real mask is not dropped), so that the memory of a step depends
        on shapes only.
        """
        dtype, device = sequence.tokens.dtype, sequence.tokens.device
        lowest = torch.finfo(dtype).min
        n_tokens, n_prompts = sequence.tokens.shape[1], sequence.n_prompts
        n_prefix = 0 if prefix_tokens is None else prefix_tokens[0].shape[1]
        bias = None
        if sequence.mask is not None:
            # One row a sample, the same for all heads and queries
            padding = (n_prefix + n_prompts, 0) if self.PROMPTS_FIRST else (n_prefix, n_prompts)
            visible = F.pad(sequence.mask, padding, value=True)
            bias = torch.zeros(visible.shape, dtype=dtype, device=device).masked_fill_(~visible, lowest)
            bias = bias[:, None, None, :]
        positions = blind if isinstance(blind, slice) else ALL if blind else NONE
        blinded = _shifted(positions, n_prompts, 0 if self.PROMPTS_FIRST else n_tokens)
        if blinded.start < blinded.stop:
            position = torch.arange(n_tokens + n_prompts, device=device)
            is_blind = (position >= blinded.start) & (position < blinded.stop)
            hidden = F.pad(is_blind[:, None] & ~is_blind[None, :], (n_prefix, 0), value=False)
            rows = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, lowest)
            bias = rows[None, None] if bias is None else torch.minimum(bias, rows[None, None])
        return bias

    def _whole_layer(self, layer: Any, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """Run a layer as the library does, for all positions; shape (B, T + M, D)."""
        out = layer(tokens, bias)
        # transformers 4 returned a tuple, 5 returns the tensor
        return out[0] if isinstance(out, tuple) else out

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        """Run a layer for the positions to keep only; shape (B, kept, D)."""
        raise AttributeError(f"{type(self).__name__} does not define layers at some positions")

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        heads: int,
        dropout: float,
        *,
        keep: slice = ALL,
        prefix_tokens: PrefixTokens | None = None,
    ) -> Tensor:
        """Multi-head attention of query (B, Q, D) over key and value (B, T, D), as the kernel set says.

        Args:
            query: Of the positions in ``keep``.
            key: Of all positions.
            value: Of all positions.
            bias: For all positions.
            heads: Number of heads.
            dropout: Probability of dropping an attention weight.
            keep: Positions of the queries.
            prefix_tokens: Keys and values to put in front.
        """
        if prefix_tokens is not None:
            key, value = (
                torch.cat([prefix_tokens[0], key], dim=1),
                torch.cat([prefix_tokens[1], value], dim=1),
            )
        if bias is not None and bias.shape[2] > 1:
            bias = bias[:, :, keep]
        query, key, value = (
            projected.unflatten(-1, (heads, -1)).transpose(1, 2) for projected in (query, key, value)
        )
        if self.model.config._attn_implementation == "sdpa":
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        else:
            scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
            weights = (scores if bias is None else scores + bias).softmax(dim=-1)
            context = F.dropout(weights, p=dropout, training=dropout > 0) @ value
        return context.transpose(1, 2).flatten(-2)

    def finish(self, sequence: Sequence) -> Sequence:
        """Apply what follows the last layer (a final LayerNorm where the family has one) to the tokens."""
        return sequence

    def pool(self, sequence: Sequence) -> Tensor:
        """Return one vector a sample, shape (B, D): the first ([CLS]) token."""
        return sequence.tokens[:, 0]

    def encode(self, inputs: ModalityInput, stop: int) -> Sequence:
        """Run the tower up to, not including, layer ``stop``, from wherever ``inputs`` stands.

        Args:
            inputs: Raw inputs, or a sequence that has been through at most ``stop`` layers.
            stop: Number of layers the result has been through, 0 to ``depth``.

        Raises:
            ValueError: If the sequence is already past ``stop``.
        """
        sequence = self._embedded(inputs)
        if sequence.layer > stop:
            raise ValueError(f"the {self.modality} sequence is past layer {stop} already: {sequence.layer}")
        for index in range(sequence.layer, stop):
            sequence = self.layer(index, sequence)
        return sequence

    def pooled(self, inputs: ModalityInput) -> Tensor:
        """Run what is left of the tower and pool, shape (B, D)."""
        sequence = self._embedded(inputs)
        if sequence.layer < self.depth:
            sequence = self.encode(sequence, self.depth - 1)
            sequence = self.layer(self.depth - 1, sequence, tokens=self.POOLED, prompts=NONE)
        return self.pool(self.finish(sequence))

    def _embedded(self, inputs: ModalityInput) -> Sequence:
        if isinstance(inputs, Sequence):
            return inputs
        with part(f"{self.modality} embedding"):
            sequence = self.embed(inputs)
            # Layers add to what they are given: in float32, also where matrices are of another type
            return replace(sequence, tokens=sequence.tokens.float())

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of tokens T of a sequence without a gap that has been through some layers."""
        raise AttributeError(f"{type(self).__name__} does not define its number of tokens")

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return inputs of the right shapes with arbitrary content, e.g. to count memory.

        Args:
            batch_size: Samples B.
            sizes: Their sizes.
        """
        raise AttributeError(f"{type(self).__name__} does not define its inputs")


@dataclass(frozen=True)
class Family:
    """How the models of one ``model_type`` of transformers become towers.

    Attributes:
        modality: The modality encoded; None for any, as sequences of extracted features.
        tower: The tower's class.
        model: Module and class of the model, below ``package``.
        pooling_head: Whether the model takes ``add_pooling_layer``: heads are left out, methods bring theirs.
        package: Where the module is; a model from elsewhere has the interface of those of transformers.
    """

    modality: str | None
    tower: type[Tower]
    model: str
    pooling_head: bool = False
    package: str = "transformers.models"

    def model_class(self) -> Any:
        """Import the model's class; only this family's module is loaded, which keeps start-up short."""
        module, name = self.model.rsplit(".", 1)
        return getattr(importlib.import_module(f"{self.package}.{module}"), name)

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"add_pooling_layer": False} if self.pooling_head else {}


@dataclass(frozen=True)
class Architecture:
    """An architecture that ``arch:NAME`` stands for.

    Attributes:
        model_type: The family.
        description: One line for listings.
        settings: What differs from the family's default configuration.
    """

    model_type: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _shifted(positions: slice, length: int, start: int) -> slice:
    """Return positions among ``length`` elements, the first of which is at ``start``, as a plain slice."""
    first, last, _ = positions.indices(length)
    return slice(start + first, start + max(first, last))
