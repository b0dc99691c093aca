"""Towers: pretrained encoders split into the steps embed, layer 0 … depth - 1, finish and pool."""

from __future__ import annotations

import copy
import importlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.weak import WeakTensorKeyDictionary

from trainables.towers.pooling import POOLINGS

#: Slices that select all positions of a sequence, and none.
ALL, NONE = slice(None), slice(0, 0)


@dataclass(frozen=True)
class InputSizes:
    """Sizes of one sample's inputs. A tower reads only the size that belongs to its modality.

    Attributes:
        text_length: Number of tokens of a text, padding included.
        image_size: Side of the square image in pixels.
        audio_seconds: Length of a sound in seconds (sampled at 16 kHz), padding included.
        feature_length: Number of vectors in a sequence of extracted features, padding included.
    """

    text_length: int = 128
    image_size: int = 224
    audio_seconds: float = 5.0
    feature_length: int = 50

    def of(self, kinds: Collection[str]) -> dict[str, float]:
        """Return the sizes of some kinds of modalities, by name."""
        names = {
            "text": "text_length",
            "image": "image_size",
            "audio": "audio_seconds",
            "features": "feature_length",
        }
        return {name: getattr(self, name) for kind, name in names.items() if kind in kinds}

    def words(self, kinds: Collection[str]) -> str:
        """Return the sizes of some kinds of modalities, such as ``16 tokens, 84 px``."""
        units = {"text_length": "tokens", "image_size": "px", "audio_seconds": "seconds of sound"}
        sizes = self.of(kinds).items()
        return ", ".join(f"{value:g} {units.get(name, 'vectors')}" for name, value in sizes)


@dataclass(frozen=True)
class Sequence:
    """Hidden states between two steps of a tower.

    Attributes:
        tokens: Hidden states of the encoder's own tokens, shape (B, T, D).
        mask: True where a token is real, shape (B, T). None means that no token is padding.
        layer: Number of layers that the tokens have passed, which is the index of the next layer.
        prompts: Tokens that a method added, shape (B, M, D), or None. They are never padding. The tower
            decides whether they stand before or after its own tokens.
    """

    tokens: Tensor
    mask: Tensor | None
    layer: int
    prompts: Tensor | None = None

    def prompted(self, *prompts: Tensor) -> Sequence:
        """Return the sequence with prompts (B, M, D) appended to its present prompts."""
        present = [] if self.prompts is None else [self.prompts]
        added = [*present, *prompts]
        return replace(self, prompts=torch.cat(added, dim=1)) if added else self

    @property
    def n_prompts(self) -> int:
        """Number of prompts M."""
        return 0 if self.prompts is None else self.prompts.shape[1]


#: Input of a method for one modality: the encoder's raw inputs (batch first), or a sequence that has
#: already passed some of the encoder's layers.
ModalityInput = Mapping[str, Tensor] | Sequence

#: Name of the entry of a batch that says, for each modality, which samples have it: a mask of shape (B,). No
#: modality may have this name.
PRESENCE = "present"

#: Keys and values, both (B, P, D), that every token of a layer attends to in addition to the tokens.
PrefixTokens = tuple[Tensor, Tensor]


#: Names of the parts of a model that are running, innermost last.
_PARTS: list[str] = []


@contextmanager
def part(name: str) -> Iterator[None]:
    """Name the part of a model that runs in this context, so that its allocations can be attributed."""
    _PARTS.append(name)
    try:
        yield
    finally:
        _PARTS.pop()


def current_part() -> str | None:
    """Return the name of the innermost running part, or None outside of all parts."""
    return _PARTS[-1] if _PARTS else None


class Tower(nn.Module):
    """A pretrained unimodal transformer, split into steps that a fusion method can interleave with its own.

    ``embed``, every ``layer`` and ``finish`` together compute the last hidden state of the Hugging Face
    model. Subclasses define how a family embeds its input and where its layers are.

    Args:
        modality: The modality that the tower encodes.
        model: The Hugging Face model, without its pooling head.

    Attributes:
        pooling: How ``pool`` reads a vector from the tokens; one of the family's ``POOLINGS``.
        pretrained: Whether the weights come from training. Random ones train with every method.
        skip_unused: If True, outputs that the caller of ``layer`` does not ask for are not computed. If
            False, a layer computes all of its outputs, as in the library.
        gradient_checkpointing: If True, only the inputs of layers are kept for the backward pass, which runs
            the layers again.
    """

    #: The kind of modality that the family encodes: text, image, audio or features.
    KIND: ClassVar[str]

    #: The poolings that make sense for the family, its default first.
    POOLINGS: ClassVar[tuple[str, ...]] = tuple(POOLINGS)

    #: Paths of the weight matrices inside a layer: query, key, value and output of the attention, up and down
    #: of the feed-forward network. A family that has one matrix for the first three names it query_key_value.
    MATRICES: ClassVar[Mapping[str, str]] = {}

    #: Paths, inside a layer, of the two modules whose outputs are added to the residual stream. The keys are
    #: ``attention`` and ``feed_forward``.
    SUBLAYERS: ClassVar[Mapping[str, str]] = {}

    #: Path, inside a layer, of the LayerNorm that belongs to the feed-forward network; see ``norms_first``.
    FEED_FORWARD_NORM: ClassVar[str] = ""

    #: Paths, inside the model, of the modules that only ``embed`` uses.
    EMBEDDINGS: ClassVar[tuple[str, ...]] = ("embeddings",)

    #: Whether prompts stand before the tokens. Causal attention requires this.
    PROMPTS_FIRST: ClassVar[bool] = False

    def __init__(self, modality: str, model: nn.Module) -> None:
        super().__init__()
        self.modality = modality
        self.model: Any = model
        self.pooling = self.POOLINGS[0]
        self.pretrained = True
        self.skip_unused = False
        self.gradient_checkpointing = False
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def depth_of(cls, config: Any) -> int:
        """Return the number of layers of a model with this Hugging Face configuration."""
        return int(config.num_hidden_layers)

    @classmethod
    def width_of(cls, config: Any) -> int:
        """Return the hidden size of the last layer of a model with this Hugging Face configuration."""
        return int(config.hidden_size)

    @property
    def width(self) -> int:
        """Hidden size D of the tower's output."""
        return self.width_of(self.model.config)

    def layer_width(self, index: int) -> int:
        """Return the hidden size of the prompts of a layer. Most families have one size for all layers."""
        return self.width

    @property
    def depth(self) -> int:
        """Number of transformer layers."""
        return len(self.layers)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""
        raise AttributeError(f"{type(self).__name__} does not define its layers")

    @property
    def norms_first(self) -> bool:
        """Whether layers normalise what their sublayers read, and not the sum of that and their output."""
        return True

    def prefix_modules(self, stop: int) -> list[nn.Module]:
        """Return the modules that a sequence which has passed ``stop`` layers no longer needs."""
        return [*(self.model.get_submodule(path) for path in self.EMBEDDINGS), *self.layers[:stop]]

    def fork(self, *, trained: bool = False, matrices: torch.dtype | None = None) -> Self:
        """Return a copy whose modules can be changed without changing this tower.

        Args:
            trained: If True, the weights are copied and trainable. If False, they are shared and frozen.
            matrices: Type in which frozen weights of two or more dimensions are stored; None keeps their
                type. Norms and biases, about a thousandth of an encoder, always keep theirs.
        """
        # copy.deepcopy fails for tensors without content, which can only be cloned
        memo: dict[int, Any] = {id(self.model.config): self.model.config}  # never changed, hence shared
        for parameter in self.parameters():
            memo[id(parameter)] = parameter
            if trained:
                memo[id(parameter)] = nn.Parameter(parameter.detach().clone())
            elif matrices is not None and parameter.ndim > 1:
                memo[id(parameter)] = _stored_in(matrices, parameter)
        for buffer in self.buffers():
            memo[id(buffer)] = buffer.clone() if trained else buffer
        for module in self.modules():  # a module has a dozen empty tables, which take most of the time
            for table in module.__dict__.values():
                if type(table) in (dict, OrderedDict) and not table:
                    memo[id(table)] = type(table)()
        return copy.deepcopy(self, memo)

    def embed(self, inputs: Mapping[str, Tensor]) -> Sequence:
        """Turn raw inputs into the tokens before layer 0.

        Args:
            inputs: The encoder's inputs, batch first. Their names depend on the modality.
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
            index: Index of the layer; 0 is the lowest.
            sequence: Tokens (B, T, D) and prompts (B, M, D).
            tokens: Positions of the tokens to return.
            prompts: Positions of the prompts to return. With ``skip_unused``, the outputs at other positions
                are not computed; they still serve as keys and values. The result is the same.
            prefix_tokens: Additional keys and values that every token attends to.
            blind: Positions of prompts that attend only to one another, or True for all prompts. All other
                positions attend to everything.

        Returns:
            The sequence after the layer, with the chosen positions only.
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
        """Run one layer without checkpointing; see ``layer``."""
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
        """Return tokens and prompts in the order in which the layer sees them, shape (B, T + M, D)."""
        if sequence.prompts is None:
            return sequence.tokens
        pair = (sequence.tokens, sequence.prompts)
        return torch.cat(pair[::-1] if self.PROMPTS_FIRST else pair, dim=1)

    def _bias(
        self, sequence: Sequence, prefix_tokens: PrefixTokens | None, *, blind: bool | slice
    ) -> Tensor | None:
        """Return the bias of the attention scores, broadcastable to (B, heads, queries, keys), or None.

        Whether there is a bias does not depend on the data: a mask without padding is kept too. The memory
        of a step thus depends on shapes only.
        """
        dtype, device = sequence.tokens.dtype, sequence.tokens.device
        lowest = torch.finfo(dtype).min
        n_tokens, n_prompts = sequence.tokens.shape[1], sequence.n_prompts
        n_prefix = 0 if prefix_tokens is None else prefix_tokens[0].shape[1]
        bias = None
        if sequence.mask is not None:
            # One row per sample, the same for all heads and queries
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
        """Run a layer at all positions by the library's own code; shape (B, T + M, D)."""
        out = layer(tokens, bias)
        # transformers 4 returns a tuple, transformers 5 a tensor
        return out[0] if isinstance(out, tuple) else out

    def _layer_at(
        self, layer: Any, tokens: Tensor, keep: slice, bias: Tensor | None, prefix_tokens: PrefixTokens | None
    ) -> Tensor:
        """Run a layer and return its output at the positions ``keep``, shape (B, kept, D)."""
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
        """Compute multi-head attention by the configured kernel, shape (B, Q, D).

        Args:
            query: Queries at the positions ``keep``, shape (B, Q, D).
            key: Keys at all positions, shape (B, T, D).
            value: Values at all positions, shape (B, T, D).
            bias: Bias of the attention scores, with one row for all queries or one row per position.
            heads: Number of heads.
            dropout: Probability of dropping an attention weight.
            keep: Positions of the queries.
            prefix_tokens: Keys and values to prepend to ``key`` and ``value``.
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
        """Apply the step after the last layer: the final LayerNorm, where the family has one."""
        return sequence

    @property
    def leading(self) -> int:
        """Number of tokens before those of the sample, such as an image encoder's [CLS].

        The mean and the maximum leave them out. Texts have none: text encoders were trained to be read at the
        mean of all tokens, those that the tokeniser adds included.
        """
        return 0

    @property
    def pooled_positions(self) -> slice:
        """The positions of the last layer's outputs that ``pool`` reads; other outputs are not needed."""
        return slice(0, 1) if self.pooling == "cls" else ALL

    def pool(self, sequence: Sequence) -> Tensor:
        """Return one vector per sample, shape (B, D), by the tower's pooling.

        Args:
            sequence: Tokens at ``pooled_positions`` or at all positions. Its prompts are not read.
        """
        tokens, mask = sequence.tokens, sequence.mask
        if self.leading and self.pooling in ("mean", "max"):
            tokens, mask = tokens[:, self.leading :], None if mask is None else mask[:, self.leading :]
        return POOLINGS[self.pooling](tokens, mask)

    def encode(self, inputs: ModalityInput, stop: int) -> Sequence:
        """Run the remaining layers below layer ``stop``.

        Args:
            inputs: Raw inputs, or a sequence that has passed at most ``stop`` layers.
            stop: Number of layers that the result has passed, 0 to ``depth``.

        Raises:
            ValueError: If the sequence has passed more than ``stop`` layers.
        """
        sequence = self._embedded(inputs)
        if sequence.layer > stop:
            raise ValueError(f"the {self.modality} sequence is past layer {stop} already: {sequence.layer}")
        for index in range(sequence.layer, stop):
            sequence = self.layer(index, sequence)
        return sequence

    def pooled(self, inputs: ModalityInput) -> Tensor:
        """Run the remaining steps of the tower and return one vector per sample, shape (B, D)."""
        sequence = self._embedded(inputs)
        if sequence.layer < self.depth:
            sequence = self.encode(sequence, self.depth - 1)
            sequence = self.layer(self.depth - 1, sequence, tokens=self.pooled_positions, prompts=NONE)
        return self.pool(self.finish(sequence))

    def _embedded(self, inputs: ModalityInput) -> Sequence:
        if isinstance(inputs, Sequence):
            return inputs
        with part(f"{self.modality} embedding"):
            sequence = self.embed(inputs)
            # The residual stream stays in float32, even if the weight matrices have another type
            return replace(sequence, tokens=sequence.tokens.float())

    def token_count(self, layer: int, sizes: InputSizes) -> int:
        """Return the number of tokens T, padding included, of a sequence that has passed ``layer`` layers."""
        raise AttributeError(f"{type(self).__name__} does not define its number of tokens")

    def example_inputs(self, batch_size: int, sizes: InputSizes) -> dict[str, Tensor]:
        """Return inputs with correct shapes and arbitrary content, for example to predict memory.

        Args:
            batch_size: Number of samples B.
            sizes: Sizes of the samples.
        """
        raise AttributeError(f"{type(self).__name__} does not define its inputs")


@dataclass(frozen=True)
class Family:
    """The rule that turns models of one ``model_type`` of transformers into towers.

    Attributes:
        tower: Class of the tower.
        model: Module and class of the model, relative to ``package``.
        pooling_head: Whether the model takes the argument ``add_pooling_layer``. The head is always left
            out, since methods have their own.
        package: Package of the module. A model outside of transformers has the interface of its models.
    """

    tower: type[Tower]
    model: str
    pooling_head: bool = False
    package: str = "transformers.models"

    @property
    def kind(self) -> str:
        """The kind of modality that the models encode."""
        return self.tower.KIND

    def model_class(self) -> Any:
        """Import the model's class. Other families are not imported, which keeps start-up short."""
        module, name = self.model.rsplit(".", 1)
        return getattr(importlib.import_module(f"{self.package}.{module}"), name)

    def options(self) -> dict[str, Any]:
        """Return the additional arguments of the model's constructor."""
        return {"add_pooling_layer": False} if self.pooling_head else {}


@dataclass(frozen=True)
class Architecture:
    """An architecture without weights, which users name as ``arch:NAME``.

    Attributes:
        model_type: Name of the family.
        description: One line for listings.
        settings: Values that differ from the family's default configuration.
    """

    model_type: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)


#: Frozen weights in other types, for all forks of the towers of this process.
_STORED = WeakTensorKeyDictionary()


def _stored_in(dtype: torch.dtype, parameter: nn.Parameter) -> nn.Parameter:
    """Return a frozen parameter in another type; it is converted once."""
    types: dict[torch.dtype, nn.Parameter] = _STORED.setdefault(parameter, {})
    if dtype not in types:
        types[dtype] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    return types[dtype]


def _shifted(positions: slice, length: int, start: int) -> slice:
    """Return a slice of ``length`` elements, shifted by ``start``, with explicit bounds."""
    first, last, _ = positions.indices(length)
    return slice(start + first, start + max(first, last))
