"""The configuration of a model, which says what it is: read by name, from where it is stored."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trainables.cache import cache_dir
from trainables.errors import UserError, unknown
from trainables.towers.bundled import BUNDLED, resolve_bundled
from trainables.towers.damage import damage, first_line
from trainables.towers.families import ARCHITECTURES, architectures_of, families_of
from trainables.towers.hub import commit_of, hub_reachable

#: Types of text models whose positions are counted from the padding index.
_PADDED_POSITIONS = ("camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")

_FILE = "config.json"
#: How names begin that are paths, and not names on the hub.
_PATHS = ("/", "./", "../", "~")
#: A file of PEFT, which stores what was added to a model without the model.
_ADAPTER = "adapter_config.json"


def read_config(name: str, kind: str | None = None, revision: str | None = None) -> tuple[Any, str | None]:
    """Return the Hugging Face configuration of a model, and where its weights are; they are not read.

    Args:
        name: A bundled name, a local folder, ``arch:NAME`` or a hub name.
        kind: The kind of modality that the model is to encode, for messages. None is for a model of any kind.
        revision: The commit of a model on the hub; None takes its newest one. Others have no revisions.

    Returns:
        The configuration; and a folder or hub name, None if no weights are stored anywhere.

    Raises:
        UserError: If there is no such model, or its configuration cannot be used.
    """
    from transformers import AutoConfig

    if name.startswith("arch:"):
        architecture = name.removeprefix("arch:")
        if architecture not in ARCHITECTURES:
            known = (f"arch:{other}" for other in architectures_of(kind))
            raise unknown("encoder" if kind else "model", name, known)
        model_type, settings = ARCHITECTURES[architecture].model_type, ARCHITECTURES[architecture].settings
        return AutoConfig.for_model(model_type, **settings), None
    if name in BUNDLED:
        location = str(resolve_bundled(name, cache_dir()))
    elif os.path.isdir(name):
        location = os.path.realpath(name)
        _check_folder(Path(location), name, kind)
    elif os.path.isfile(name) or name.startswith(_PATHS):
        what = "is a file, not a folder" if os.path.isfile(name) else "there is no such folder"
        raise UserError(f"{_word(kind)} '{name}': {what}; accepted: the folder that holds its {_FILE}")
    else:
        location = name
    return _read_stored(location, kind, name, revision), location


def most_tokens(config: Any) -> int | None:
    """Return the largest number of tokens for which a text model has positions; None if it takes any."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in _PADDED_POSITIONS:
        return positions
    # The first position of RoBERTa and its kin has the number of the padding index plus one
    return int(positions - (config.pad_token_id or 0) - 1)


def usual_image_size(config: Any) -> int:
    """Return the side of the square image in pixels at which an image model is used by default."""
    # Models of convolutions state none; DINOv2 was pretrained at 518 but is used at 224
    return 224 if config.model_type.startswith("dinov2") else int(getattr(config, "image_size", 224))


def quiet() -> None:
    """Turn off progress bars and load reports of transformers, which would list heads left out on purpose."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _check_folder(folder: Path, name: str, kind: str | None) -> None:
    """Check that a folder holds a model and says which; the library would guess by the folder's name."""
    from transformers import CONFIG_MAPPING

    import trainables.towers.models.configuration  # noqa: F401  adds our own models to the mapping

    path = folder / _FILE
    if (folder / _ADAPTER).exists():
        raise UserError(
            f"{_word(kind)} '{name}': the folder holds an adapter of PEFT; merge it into its model "
            "(`merge_and_unload`) and save that"
        )
    if not path.exists():
        inside = sorted(found.parent.name for found in folder.glob(f"*/{_FILE}"))
        others = f"; is it {folder / inside[0]}?" if len(inside) == 1 else ""
        raise UserError(f"{_word(kind)} '{name}': the folder has no {_FILE}{others}")
    reason = damage(path)
    stated = None if reason else json.loads(path.read_bytes())
    if not isinstance(stated, dict):
        raise UserError(f"{_word(kind)} '{name}': its {_FILE} {reason or 'holds no JSON object'}")
    family = stated.get("model_type")
    known = families_of(kind) if kind else "those of transformers"
    if not isinstance(family, str):
        raise UserError(
            f"{_word(kind)} '{name}': its {_FILE} states no model_type, its family; supported: {known}"
        )
    if family not in CONFIG_MAPPING and not stated.get("auto_map"):
        raise UserError(f"{_word(kind)} '{name}' is of the family '{family}'; supported: {known}")


def _read_stored(location: str, kind: str | None, name: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    quiet()
    # Without this check, transformers retries an unreachable hub for half a minute
    local = os.path.isdir(location)
    unreachable = not local and not hub_reachable()
    try:
        config = AutoConfig.from_pretrained(
            location,
            local_files_only=unreachable,
            trust_remote_code=False,
            revision=(None if local else revision) or "main",
        )
    except Exception as error:  # what a malformed file raises has no class in common
        if "trust_remote_code" in str(error):  # the option of transformers that its message asks for
            supported = f"; supported: {families_of(kind)}" if kind else ""
            raise UserError(
                f"{_word(kind)} '{name}': comes with code of its own, which is never run{supported}"
            ) from error
        if local:
            raise UserError(
                f"{_word(kind)} '{name}': its {_FILE} cannot be used ({first_line(error)})"
            ) from error
        bundled = ", ".join(known for known, e in BUNDLED.items() if kind in (None, e.modality))
        architectures = ", ".join(architectures_of(kind))
        reason = "the hub cannot be reached from here" if unreachable else first_line(error)
        raise UserError(
            f"unknown {kind + ' encoder' if kind else 'model'} '{name}': not bundled ({bundled}), no "
            f"folder with a config.json, no arch:NAME ({architectures}), and no hub name that can "
            f"be loaded ({reason})"
        ) from error
    if not local:
        config._commit_hash = commit_of(location, revision)  # the library states it no more
    return config


def _word(kind: str | None) -> str:
    return "encoder" if kind else "model"
