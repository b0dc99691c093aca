"""The tokeniser of a text encoder: loaded, and checked against the encoder's table of embeddings."""

from __future__ import annotations

import importlib.util
import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.notices import tell
from trainables.towers.damage import damage, why
from trainables.towers.source import EncoderSource

#: Suffixes of the files that tokenisers are read from.
_SUFFIXES = (".json", ".txt", ".model")
#: What a tokeniser must make tokens of: it may know none of these letters, but must not leave them out.
_SYMBOLS = list(string.ascii_lowercase + string.digits)
_TWO_WORDS = "a b"
#: Below this share, a tokeniser is suspiciously small for its encoder, or its merges for its vocabulary.
_MOST = 0.9
#: Symbols and special tokens, which no merge makes, in a vocabulary of byte pairs (two for a byte in CLIP's).
_UNMERGED = 600


def load_tokenizer(encoder: EncoderSource) -> Any:
    """Load an encoder's tokeniser, configured to pad on the right.

    Raises:
        UserError: If the encoder has no tokeniser that can be loaded and used, or if it is not the encoder's.
    """
    from transformers import AutoTokenizer

    if encoder.location is None:
        raise UserError(f"encoder '{encoder.name}' comes without a tokeniser")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            encoder.location,
            padding_side="right",
            trust_remote_code=False,
            revision=encoder.revision or "main",
        )
    except Exception as error:  # what a malformed file raises has no class in common
        raise _unusable(encoder, error) from error
    # Without any file, the library makes a tokeniser of the special tokens alone
    files = sorted({"tokenizer.json", *tokenizer.vocab_files_names.values()})
    if not any(_file(encoder, name) for name in files):
        raise UserError(
            f"encoder '{encoder.name}' comes without a tokeniser: its folder has none of {', '.join(files)}"
        )
    _let_pad(encoder, tokenizer)
    _check_vocabulary(encoder, tokenizer)
    try:
        plain = {symbol: tokenizer(symbol, add_special_tokens=False)["input_ids"] for symbol in _SYMBOLS}
        around, whole = (tokenizer(text)["input_ids"] for text in ("", _SYMBOLS[0]))
        tokenizer(["", _TWO_WORDS], truncation=True, max_length=8, padding="max_length")
        tokens = len(tokenizer(_TWO_WORDS, add_special_tokens=False)["input_ids"])
        invented = _invented(encoder, tokenizer, around)
        left_out = [symbol for symbol, ids in plain.items() if not ids and not _known(tokenizer, symbol)]
    except Exception as error:  # the library has no class for what its tokenisers raise
        raise _unusable(encoder, error) from error
    if left_out:
        raise UserError(
            f"encoder '{encoder.name}': its tokeniser leaves out {left_out[0]!r}; its files are incomplete"
        )
    if tokens < 2:
        raise UserError(
            f"encoder '{encoder.name}': its tokeniser makes one token of two words; its files are incomplete"
        )
    if invented:
        raise UserError(
            f"encoder '{encoder.name}': the vocabulary of its tokeniser lacks {' and '.join(invented)}, "
            "which it puts around every text"
        )
    if encoder.pooling == "cls" and whole[:1] == plain[_SYMBOLS[0]][:1]:
        raise UserError(
            f"encoder '{encoder.name}': its tokeniser puts no [CLS] before a text, where the pooling cls "
            f"reads; accepted: --pooling {encoder.modality}=mean, last or max"
        )
    return tokenizer


def _let_pad(encoder: EncoderSource, tokenizer: Any) -> None:
    """Make sure that there is a padding token; which one does not matter, because it is masked."""
    if tokenizer.pad_token is None:
        token = tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token
        if token is None:
            raise UserError(
                f"encoder '{encoder.name}': its tokeniser has no token to pad with; accepted: a pad_token, "
                "eos_token, sep_token or unk_token in its tokenizer_config.json"
            )
        tokenizer.pad_token = token


def _check_vocabulary(encoder: EncoderSource, tokenizer: Any) -> None:
    """Check that every token has a row in the table of embeddings, and that the vocabulary seems whole."""
    words, rows = max(tokenizer.get_vocab().values(), default=-1) + 1, int(encoder.config.vocab_size)
    if words > rows:
        raise UserError(
            f"encoder '{encoder.name}': its tokeniser has {words:,} words, its table of embeddings {rows:,}; "
            "the tokeniser belongs to another model, or words were added without a row"
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and type(backend.model).__name__ == "BPE":
        merges = len(json.loads(backend.to_str())["model"]["merges"])
        if merges < _MOST * (words - _UNMERGED):
            raise UserError(
                f"encoder '{encoder.name}': its tokeniser has {words:,} words, but {merges:,} merges; its "
                "files are incomplete"
            )
    if words < _MOST * rows:
        tell(
            f"encoder '{encoder.name}': its tokeniser has {words:,} words, its table of embeddings {rows:,}; "
            "is it the encoder's own, and whole?"
        )


def _known(tokenizer: Any, symbol: str) -> bool:
    """Return whether a vocabulary has tokens for a symbol that the tokeniser may remove on purpose."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is None or bool(backend.model.tokenize(symbol))


def _invented(encoder: EncoderSource, tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Return those of some tokens that no file has, so that the library gave them new numbers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    named = backend.get_vocab(with_added_tokens=False)
    missing = [i for i in dict.fromkeys(ids) if tokenizer.convert_ids_to_tokens(i) not in named]
    if not missing:
        return []
    added = {token["id"] for token in _content(encoder, "tokenizer.json").get("added_tokens", [])}
    added |= {int(i) for i in _content(encoder, "tokenizer_config.json").get("added_tokens_decoder", {})}
    added |= {*_content(encoder, "added_tokens.json").values()}
    return [tokenizer.convert_ids_to_tokens(i) for i in missing if i not in added]


def _content(encoder: EncoderSource, name: str) -> dict[str, Any]:
    path = _file(encoder, name)
    content: dict[str, Any] = json.loads(Path(path).read_bytes()) if path else {}
    return content


def _file(encoder: EncoderSource, name: str) -> str | None:
    """Return the path of a file, which loading the tokeniser has fetched; None if there is none."""
    from transformers.utils import cached_file

    path: str | None = cached_file(
        encoder.location,
        name,
        local_files_only=True,
        revision=encoder.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    return path


def _unusable(encoder: EncoderSource, error: Exception) -> UserError:
    folder = Path(encoder.location or "")
    pieces = sorted(path.name for path in folder.glob("*.model")) if folder.is_dir() else []
    reason = why(error, encoder.location, lambda path: path.suffix in _SUFFIXES)
    if pieces and not damage(folder / pieces[0]) and importlib.util.find_spec("sentencepiece") is None:
        reason = f"{pieces[0]} needs the package sentencepiece, or a tokenizer.json beside it"
    return UserError(f"encoder '{encoder.name}' comes without a tokeniser that can be loaded ({reason})")
