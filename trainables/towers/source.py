"""Resolve an encoder's name (``minilm``, a hub name, a folder, ``arch:bert-base``) and load its tower."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from trainables.cache import cache_dir
from trainables.errors import UserError, unknown
from trainables.towers import bag_of_words, bert, clip, features, gpt2, speech, swin, vit
from trainables.towers.base import Architecture, Family, InputSizes, Tower
from trainables.towers.bundled import BUNDLED, resolve_bundled
from trainables.towers.hub import hub_reachable
from trainables.towers.stated import stated_pooling

#: Entries of a configuration that say where it lies and what reads it, not what the encoder is.
_CIRCUMSTANCES = ("_name_or_path", "_commit_hash", "transformers_version")
#: Types of text models whose positions are counted from the padding index.
_PADDED_POSITIONS = ("camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")
#: Suffixes of the files that determine what a local encoder computes.
_FINGERPRINTED = {".safetensors", ".bin", ".json", ".txt", ".model"}

#: Attention kernels that a tower can run with.
ATTENTION = ("eager", "sdpa")


_MODULES = (bert, gpt2, bag_of_words, vit, swin, clip, speech, features)

#: Families by ``model_type`` of transformers.
FAMILIES: Mapping[str, Family] = {
    name: family for module in _MODULES for name, family in module.FAMILIES.items()
}

_KINDS = {family.kind for family in FAMILIES.values()}

#: Architectures by the name after ``arch:``.
ARCHITECTURES: Mapping[str, Architecture] = {
    name: architecture
    for module in (bert, gpt2, vit, swin, clip, speech)
    for name, architecture in module.ARCHITECTURES.items()
}


@dataclass(frozen=True)
class EncoderSource:
    """A resolved encoder: its configuration is known, its weights are not loaded yet.

    Attributes:
        modality: The modality that the encoder encodes.
        name: The name that the user wrote.
        location: Folder or hub name of the weights; None if no weights are stored anywhere.
        config: The Hugging Face configuration.
        pooling: How the encoder's vector is read from its tokens; one of the family's ``POOLINGS``.
        image_size: Default side of an image encoder's input in pixels; None for other encoders.
    """

    modality: str
    name: str
    location: str | None
    config: Any
    pooling: str
    image_size: int | None = None

    @property
    def address(self) -> str:
        """A name that resolves to the same encoder in every working folder and on every node."""
        prefix = bag_of_words.PREFIX if self.name.startswith(bag_of_words.PREFIX) else ""
        if self.name.removeprefix(prefix) in BUNDLED or self.location is None:
            return self.name
        return prefix + self.location

    @property
    def family(self) -> Family:
        """The family that the encoder belongs to."""
        return FAMILIES[self.config.model_type]

    @property
    def kind(self) -> str:
        """The kind of modality that it encodes."""
        return self.family.kind

    @property
    def depth(self) -> int:
        """Number of transformer layers."""
        return self.family.tower.depth_of(self.config)

    @property
    def width(self) -> int:
        """Hidden size of the last layer."""
        return self.family.tower.width_of(self.config)

    @property
    def max_text_length(self) -> int:
        """The largest number of tokens for which a text encoder has positions."""
        most = most_tokens(self.config)
        assert most is not None
        return most

    def check_sizes(self, sizes: InputSizes) -> None:
        """Check that the encoder can take these input sizes.

        Raises:
            UserError: If it cannot. The message names the size and the accepted values.
        """
        taken = self._sizes_taken(sizes)
        if taken:
            given, accepted = taken
            raise UserError(f"{given}: encoder '{self.name}' takes {accepted}")

    def _sizes_taken(self, sizes: InputSizes) -> tuple[str, str] | None:
        """Return the option that the encoder cannot take and the values it can; None if all sizes fit."""
        match self.kind:
            case "text":
                if not 2 <= sizes.text_length <= self.max_text_length:
                    return f"--text-length {sizes.text_length}", f"2 to {self.max_text_length} tokens"
            case "image":
                patch = int(self.config.patch_size)
                if sizes.image_size < patch or sizes.image_size % patch:
                    return f"--image-size {sizes.image_size}", f"multiples of its patch size, {patch}"
            case "audio":
                tower = self.family.tower
                assert issubclass(tower, speech.SpeechTower)
                shortest, longest = tower.seconds_of(self.config)
                if not shortest <= sizes.audio_seconds <= (longest or sizes.audio_seconds):
                    accepted = f"at least {shortest:g}" if longest is None else f"{shortest:g} to {longest:g}"
                    return f"--audio-seconds {sizes.audio_seconds:g}", f"{accepted} seconds"
        return None

    @property
    def from_seed(self) -> bool:
        """Whether the weights are random numbers that the encoder's name determines.

        Such an encoder trains with every method; see ``Tower.pretrained``.
        """
        return self.location is None and self.name.startswith(features.PREFIX)

    def weights_location(self) -> str:
        """Return the source of the weights: a folder, a hub name, or the name of an encoder ``from_seed``.

        Raises:
            UserError: If the encoder has no weights.
        """
        if self.from_seed:
            return self.name
        if self.location is None:
            raise UserError(
                f"encoder '{self.name}' is an architecture without weights: it serves `predict`; "
                "to train, name a bundled encoder, a hub name or a local folder"
            )
        return self.location

    def fingerprint(self) -> str:
        """Return a hash of the encoder and of its tokeniser or image processing, for cache keys.

        Raises:
            UserError: If the encoder has no weights.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        location = self.weights_location()
        settings = {name: v for name, v in self.config.to_dict().items() if name not in _CIRCUMSTANCES}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        folder = Path(location)
        if folder.is_dir():
            files = sorted(p for p in folder.iterdir() if p.suffix in _FINGERPRINTED)
            for path in files:
                try:
                    with path.open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                except OSError as error:
                    reason = error.strerror
                    raise UserError(f"encoder '{self.name}': {path} cannot be read ({reason})") from error
        elif not self.from_seed:
            digest.update(f"{location}@{getattr(self.config, '_commit_hash', None)}".encode())
        return digest.hexdigest()[:16]


def resolve_encoders(
    names: Mapping[str, str],
    poolings: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> dict[str, EncoderSource]:
    """Resolve the encoders of several modalities; see ``resolve_encoder``.

    Args:
        names: The encoder's name of each modality.
        poolings: The pooling of some modalities; the others have their encoder's own.
        kinds: The kind of each modality; None if there is no dataset to tell.

    Raises:
        UserError: If an encoder or a pooling is refused, or a pooling's modality has no encoder.
    """
    poolings, kinds = poolings or {}, kinds or {}
    for modality, pooling in poolings.items():
        if modality not in names:
            raise UserError(
                f"--pooling {modality}={pooling}: no encoder of that modality; there are: {', '.join(names)}"
            )
    return {
        modality: resolve_encoder(modality, name, poolings.get(modality), kinds.get(modality))
        for modality, name in names.items()
    }


def resolve_encoder(
    modality: str, name: str, pooling: str | None = None, kind: str | None = None
) -> EncoderSource:
    """Resolve the name of an encoder. Its configuration is read, its weights are not.

    Args:
        modality: The modality to encode: ``text``, ``image``, ``audio``, or a name that the user chose.
        name: A bundled name, a local folder, ``arch:NAME`` or a hub name. ``bow:`` before one of these
            selects the word embeddings of that text encoder. ``features:dim=N`` with further options (see
            ``features_config``) is a new encoder of extracted features.
        pooling: How its vector is read from its tokens. None takes what the encoder's folder or repository
            states, in the way of sentence-transformers, or else the family's default.
        kind: Kind of the modality. None tells it by the modality's name; any name may stand for features.

    Raises:
        UserError: If no such encoder exists, it encodes another modality, its family is not supported, or the
            family does not take the pooling.
    """
    if name.startswith(bag_of_words.PREFIX):
        return _bag_of_words(modality, name, pooling, kind)
    if name.startswith(features.PREFIX):
        _check_kind("features", modality, kind, name)
        config = features.features_config(name)
        return EncoderSource(modality, name, None, config, _pooling(modality, name, config, pooling))
    config, location = read_config(name, modality)
    if config.model_type == clip.BOTH:
        config = clip.encoder_config(config, kind or modality, name)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UserError(
            f"encoder '{name}' is of the family '{config.model_type}'; supported: {', '.join(FAMILIES)}"
        )
    _check_kind(family.kind, modality, kind, name)
    image_size = None
    if family.kind == "image":
        bundled = BUNDLED.get(name)
        image_size = int((bundled and bundled.image_size) or usual_image_size(config))
    pooling = _pooling(modality, name, config, pooling, location)
    return EncoderSource(modality, name, location, config, pooling, image_size)


def read_config(name: str, modality: str | None = None) -> tuple[Any, str | None]:
    """Return the Hugging Face configuration of a model, and where its weights are; they are not read.

    Args:
        name: A bundled name, a local folder, ``arch:NAME`` or a hub name.
        modality: The modality that the model is to encode, for messages. None is for a model of any kind.

    Returns:
        The configuration; and a folder or hub name, None if no weights are stored anywhere.

    Raises:
        UserError: If there is no such model.
    """
    from transformers import AutoConfig

    if name.startswith("arch:"):
        architecture = name.removeprefix("arch:")
        if architecture not in ARCHITECTURES:
            known = (f"arch:{other}" for other in ARCHITECTURES)
            raise unknown("encoder" if modality else "model", name, known)
        model_type, settings = ARCHITECTURES[architecture].model_type, ARCHITECTURES[architecture].settings
        return AutoConfig.for_model(model_type, **settings), None
    if name in BUNDLED:
        location = str(resolve_bundled(name, cache_dir()))
    else:
        location = os.path.realpath(name) if os.path.isdir(name) else name
    return _read_stored(location, modality, name), location


def most_tokens(config: Any) -> int | None:
    """Return the largest number of tokens for which a text model has positions; None if it takes any."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in _PADDED_POSITIONS:
        return positions
    # The first position of RoBERTa and its kin has the number of the padding index plus one
    return int(positions - config.pad_token_id - 1)


def usual_image_size(config: Any) -> int:
    """Return the side of the square image in pixels at which an image model is used by default."""
    # Models of convolutions state none; DINOv2 was pretrained at 518 but is used at 224
    return 224 if config.model_type.startswith("dinov2") else int(getattr(config, "image_size", 224))


def load_tower(source: EncoderSource, *, attention: str = "eager", weights: bool = True) -> Tower:
    """Build the tower of an encoder, frozen and in evaluation mode.

    Args:
        source: The encoder.
        attention: Attention kernel, ``eager`` or ``sdpa``.
        weights: Whether to load the weights. If not, parameters are allocated but not initialised.

    Raises:
        UserError: If the weights are missing or cannot be loaded.
    """
    tower = source.family.tower(source.modality, load_model(source, attention=attention, weights=weights))
    tower.pooling = source.pooling
    tower.pretrained = not source.from_seed
    return tower


def load_model(source: EncoderSource, *, attention: str = "eager", weights: bool = True) -> nn.Module:
    """Load the model of an encoder, from which its tower is made; see ``load_tower``."""
    family = source.family
    model_class = family.model_class()
    config = copy.deepcopy(source.config)
    config._attn_implementation = attention
    if not weights:
        from transformers.initialization import no_init_weights

        try:
            with no_init_weights():
                empty: nn.Module = model_class(config, **family.options())
                return empty
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = _first_line(error)
            raise UserError(f"encoder '{source.name}': its settings make no model ({reason})") from error
    location = source.weights_location()
    _quiet()
    if source.from_seed:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            new: nn.Module = model_class(config)
            return new
    try:
        model: nn.Module = model_class.from_pretrained(
            location, config=config, dtype=torch.float32, weights_only=True, **family.options()
        )
    except UnpicklingError as error:
        raise UserError(
            f"encoder '{source.name}': its weights are pickled with objects that would run code; use weights "
            "in a safetensors file"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"encoder '{source.name}': cannot load its weights ({_first_line(error)})") from error
    return model


def _quiet() -> None:
    """Turn off progress bars and load reports of transformers, which would list heads left out on purpose."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _check_kind(found: str, modality: str, kind: str | None, name: str) -> None:
    """Raise ``UserError`` if an encoder of the kind ``found`` cannot encode a modality."""
    # Without a dataset, a modality that is named like a kind is of that kind, or extracted features of it
    expected = kind or (modality if modality in _KINDS and found != "features" else found)
    if found != expected:
        raise UserError(f"encoder '{name}' encodes {found}, not {expected}")


def _bag_of_words(modality: str, name: str, pooling: str | None, kind: str | None) -> EncoderSource:
    encoder = resolve_encoder(modality, name.removeprefix(bag_of_words.PREFIX), None, kind)
    if encoder.kind != "text" or encoder.config.model_type in bag_of_words.FAMILIES:
        raise UserError(
            f"encoder '{name}': after '{bag_of_words.PREFIX}' a text encoder is named: a bundled name, a "
            "folder, arch:NAME or a hub name"
        )
    config = bag_of_words.bag_of_words_config(encoder.config, encoder.max_text_length)
    return EncoderSource(modality, name, encoder.location, config, _pooling(modality, name, config, pooling))


def _pooling(modality: str, name: str, config: Any, asked: str | None, location: str | None = None) -> str:
    """Return the pooling that is asked for, or that the files at ``location`` state, or the family's default.

    Raises:
        UserError: If the family does not take the one that is asked for.
    """
    accepted = FAMILIES[config.model_type].tower.POOLINGS
    if asked is not None and asked not in accepted:
        raise UserError(f"--pooling {modality}={asked}: encoder '{name}' takes {', '.join(accepted)}")
    if asked is None and location is not None:
        asked = stated_pooling(name, location, getattr(config, "_commit_hash", None), accepted)
    return asked or accepted[0]


def _read_stored(location: str, modality: str | None, name: str) -> Any:
    from transformers import AutoConfig

    import trainables.towers.models.configuration  # noqa: F401  makes AutoConfig know our own models

    _quiet()
    # Without this check, transformers retries an unreachable hub for half a minute
    unreachable = not os.path.isdir(location) and not hub_reachable()
    try:
        return AutoConfig.from_pretrained(location, local_files_only=unreachable, trust_remote_code=False)
    except Exception as error:  # what a malformed file raises has no class in common
        if "trust_remote_code" in str(error):  # the option of transformers that its message asks for
            supported = f"; supported: {', '.join(FAMILIES)}" if modality else ""
            raise UserError(
                f"{'encoder' if modality else 'model'} '{name}': comes with code of its own, which is never "
                f"run{supported}"
            ) from error
        bundled = ", ".join(known for known, e in BUNDLED.items() if modality in (None, e.modality))
        reason = "the hub cannot be reached from here" if unreachable else _first_line(error)
        raise UserError(
            f"unknown {modality + ' encoder' if modality else 'model'} '{name}': not bundled ({bundled}), no "
            f"folder with a config.json, no arch:NAME ({', '.join(ARCHITECTURES)}), and no hub name that can "
            f"be loaded ({reason})"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
