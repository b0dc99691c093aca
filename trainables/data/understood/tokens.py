"""What a tokeniser makes of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trainables.data.kinds.text import fitting, rounded_length
from trainables.data.understood.document import Tokens
from trainables.data.understood.sizes import OF_TOKENS, percentiles
from trainables.towers import EncoderSource, load_tokenizer

_LOT = 1024  # texts that are tokenised at a time


def count_tokens(
    encoder: EncoderSource,
    texts: Sequence[str],
    rows: np.ndarray,
    train: np.ndarray,
    length: int | None,
    tick: Callable[[int], None],
) -> Tokens:
    """Return what an encoder's tokeniser makes of texts.

    Args:
        encoder: The encoder.
        texts: The distinct texts.
        rows: The number of rows of each, shape (N,).
        train: The number of training rows of each, shape (N,). Missing texts are not among them.
        length: Number of tokens to which texts are cut; None is that which a search chooses.
        tick: Called with the number of texts done.
    """
    tokenizer = load_tokenizer(encoder)
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    unknown_id = tokenizer.unk_token_id if tokenizer.unk_token_id not in _roles(tokenizer) else None
    lengths, real, unknown = (np.zeros(len(texts), dtype=np.int64) for _ in range(3))
    for start in range(0, len(texts), _LOT):
        encoded = tokenizer(list(texts[start : start + _LOT]))["input_ids"]
        for number, ids in enumerate(encoded, start):
            lengths[number] = len(ids)
            real[number] = sum(token not in special for token in ids)
            unknown[number] = 0 if unknown_id is None else ids.count(unknown_id)
        tick(min(start + _LOT, len(texts)))
    cut_at = length or rounded_length(fitting(np.repeat(lengths, train)), encoder)
    total = int((real * rows).sum())
    return Tokens(
        encoder.name,
        {share: int(tokens) for share, tokens in percentiles(np.repeat(lengths, rows), OF_TOKENS).items()},
        float((unknown * rows).sum() / total) if total else 0.0,
        cut_at,
        float(rows[lengths > cut_at].sum() / rows.sum()),
    )


def _roles(tokenizer: object) -> set[int | None]:
    """Return the tokens that stand for the ends of texts and such; GPT-2's are its unknown token, too."""
    names = ("bos", "eos", "pad", "cls", "sep", "mask")
    return {getattr(tokenizer, f"{name}_token_id", None) for name in names}
