"""Resolve an encoder's name: ``minilm``, a hub name, a folder, ``arch:bert-base``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.towers import bag_of_words, clip, features, speech
from trainables.towers.base import Family, InputSizes
from trainables.towers.bundled import BUNDLED
from trainables.towers.configs import most_tokens, read_config, usual_image_size
from trainables.towers.damage import first_line
from trainables.towers.families import FAMILIES, KINDS, families_of
from trainables.towers.stated import stated_pooling

#: Entries of a configuration that say where it lies and what reads it, not what the encoder is.
_CIRCUMSTANCES = ("_name_or_path", "_commit_hash", "transformers_version")
#: No encoder has more layers. Building millions of them would take hours.
_DEEPEST = 1000
#: Suffixes of the files that determine what a local encoder computes.
_FINGERPRINTED = {".safetensors", ".bin", ".json", ".txt", ".model"}


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
    def revision(self) -> str | None:
        """The commit of an encoder on the hub; None for any other, whose files are as they are."""
        commit: str | None = getattr(self.config, "_commit_hash", None)
        return commit

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
            digest.update(f"{location}@{self.revision}".encode())
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
    modality: str,
    name: str,
    pooling: str | None = None,
    kind: str | None = None,
    revision: str | None = None,
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
        revision: The commit of an encoder on the hub; None takes its newest one.

    Raises:
        UserError: If no such encoder exists, it encodes another modality, its family is not supported, or the
            family does not take the pooling.
    """
    if name.startswith(bag_of_words.PREFIX):
        return _bag_of_words(modality, name, pooling, kind, revision)
    if name.startswith(features.PREFIX):
        _check_kind("features", modality, kind, name)
        config = features.features_config(name)
        return EncoderSource(modality, name, None, config, _pooling(modality, name, config, pooling))
    config, location = read_config(name, kind or modality, revision)
    if config.model_type == clip.BOTH:
        config = clip.encoder_config(config, kind or modality, name)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UserError(
            f"encoder '{name}' is of the family '{config.model_type}'; supported: "
            f"{families_of(kind or modality)}"
        )
    _check_kind(family.kind, modality, kind, name)
    image_size = None
    _check_size(config, name)
    if family.kind == "text":
        _check_positions(config, name)
    if family.kind == "image":
        _check_images(config, name)
        bundled = BUNDLED.get(name)
        image_size = int((bundled and bundled.image_size) or usual_image_size(config))
    pooling = _pooling(modality, name, config, pooling, location)
    return EncoderSource(modality, name, location, config, pooling, image_size)


def _check_kind(found: str, modality: str, kind: str | None, name: str) -> None:
    """Raise ``UserError`` if an encoder of the kind ``found`` cannot encode a modality."""
    # Without a dataset, a modality that is named like a kind is of that kind, or extracted features of it
    expected = kind or (modality if modality in KINDS and found != "features" else found)
    if found != expected:
        raise UserError(
            f"encoder '{name}' encodes {found}, not {expected}; supported: {families_of(expected)}"
        )


def _check_size(config: Any, name: str) -> None:
    """Check that a configuration states how wide and deep the encoder is, and that it can be built."""
    tower = FAMILIES[config.model_type].tower
    try:
        depth, _ = tower.depth_of(config), tower.width_of(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"encoder '{name}': its config.json cannot be used ({first_line(error)})") from error
    if not 1 <= depth <= _DEEPEST:
        raise UserError(
            f"encoder '{name}': its config.json asks for {depth:,} layers; accepted: 1 to {_DEEPEST:,}"
        )


def _check_positions(config: Any, name: str) -> None:
    """Check that positions are absolute; the library ignores what is stated here."""
    stated = getattr(config, "position_embedding_type", "absolute")
    if stated != "absolute":
        raise UserError(f"encoder '{name}' has positions of the type '{stated}'; accepted: 'absolute'")


def _check_images(config: Any, name: str) -> None:
    """Check that an encoder takes square RGB images, and state the length of a side as one number."""
    for entry in ("image_size", "patch_size"):
        stated = getattr(config, entry)
        sides = [*stated] if isinstance(stated, list | tuple) else [stated]
        if len({*sides}) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
            raise UserError(
                f"encoder '{name}': its config.json states {entry} {stated}; accepted: one length in "
                "pixels, or the same one twice"
            )
        setattr(config, entry, sides[0])
    if config.num_channels != 3:
        raise UserError(
            f"encoder '{name}' takes images of {config.num_channels} channels; accepted: encoders of 3, "
            "which are red, green and blue"
        )


def _bag_of_words(
    modality: str, name: str, pooling: str | None, kind: str | None, revision: str | None
) -> EncoderSource:
    encoder = resolve_encoder(modality, name.removeprefix(bag_of_words.PREFIX), None, kind, revision)
    if encoder.kind != "text" or encoder.config.model_type in bag_of_words.FAMILIES:
        raise UserError(
            f"encoder '{name}': after '{bag_of_words.PREFIX}' a text encoder is named: a bundled name, a "
            "folder, arch:NAME or a hub name"
        )
    config = bag_of_words.bag_of_words_config(encoder.config, encoder.max_text_length)
    config._commit_hash = encoder.revision
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
