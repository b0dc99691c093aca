"""Tokenisers that are not there, not whole, or not the encoder's."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import UserError
from trainables.notices import pending
from trainables.towers import load_tokenizer, resolve_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "a", "##s", "b"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.fixture
def bert(tiny_encoders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of a text encoder with 64 word embeddings, to be damaged."""
    return Path(shutil.copytree(tiny_encoders["bert"], tmp_path / "bert"))


@pytest.fixture
def bare(bert: Path) -> Path:
    """The folder of the encoder, without a tokeniser."""
    for path in bert.glob("tokenizer*"):
        path.unlink()
    return bert


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _refusal(folder: Path, pooling: str | None = None) -> str:
    with pytest.raises(UserError) as refused:
        load_tokenizer(resolve_encoder("text", str(folder), pooling))
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(str(folder), "FOLDER")


def test_a_folder_without_a_tokeniser_is_refused(bare) -> None:
    none = "encoder 'FOLDER' comes without a tokeniser: its folder has none of tokenizer.json, vocab.txt"
    assert _refusal(bare) == none
    (bare / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert _refusal(bare) == none
    (bare / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    assert _refusal(bare) == none, "the vocabulary of another class"
    with pytest.raises(UserError, match="encoder 'arch:bert-base' comes without a tokeniser"):
        load_tokenizer(resolve_encoder("text", "arch:bert-base"))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_vocabulary_alone_is_a_tokeniser(bare, ends) -> None:
    (bare / "vocab.txt").write_text("".join(f"{word}{ends}" for word in WORDS), newline="")
    assert load_tokenizer(resolve_encoder("text", str(bare)))("reds a")["input_ids"] == [2, 5, 7, 6, 3]


@pytest.mark.parametrize("content", [b"", POINTER.encode(), json.dumps(WORDS).encode(), bytes(range(256))])
def test_a_vocabulary_that_is_none_is_refused(bare, content) -> None:
    (bare / "vocab.txt").write_bytes(content)
    reason = {b"": "vocab.txt is empty", POINTER.encode(): "vocab.txt is a Git LFS pointer"}.get(content, "")
    assert _refusal(bare).startswith(
        f"encoder 'FOLDER' comes without a tokeniser that can be loaded ({reason}"
    )


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "tokenizer.json",
            POINTER,
            "tokenizer.json is a Git LFS pointer and not the file: run `git lfs pull`",
        ),
        ("tokenizer.json", "", "tokenizer.json is empty"),
        ("tokenizer.json", '{"version": ', "tokenizer.json is no JSON"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is no JSON"),
        ("tokenizer_config.json", "[]", ""),
    ],
)
def test_the_file_that_cannot_be_read_is_named(bert, file, content, reason) -> None:
    (bert / file).write_text(content)
    assert f"comes without a tokeniser that can be loaded ({reason}" in _refusal(bert)


@pytest.mark.parametrize("values", [{"version": 99}, {"added_tokens": "x"}, {"model": []}], ids=str)
def test_a_malformed_tokeniser_cannot_be_loaded(bert, values) -> None:
    _change(bert / "tokenizer.json", **values)
    assert "comes without a tokeniser that can be loaded" in _refusal(bert)


def test_a_tokeniser_of_pieces_needs_a_library_or_a_file(bare, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _change(bare / "config.json", model_type="xlm-roberta")
    (bare / "sentencepiece.bpe.model").write_bytes(b"\n\x0e\n\x05<unk>")
    assert "sentencepiece.bpe.model needs the package sentencepiece, or a tokenizer.json" in _refusal(bare)
    (bare / "sentencepiece.bpe.model").write_text(POINTER)
    assert "sentencepiece.bpe.model is a Git LFS pointer" in _refusal(bare)


def test_a_tokeniser_with_more_words_than_embeddings_is_refused(bert) -> None:
    model = json.loads((bert / "tokenizer.json").read_text())["model"]
    _change(bert / "tokenizer.json", model={**model, "vocab": {**model["vocab"], "far": 81}})
    assert "its tokeniser has 82 words, its table of embeddings 64; " in _refusal(bert)


def test_a_tokeniser_with_far_fewer_is_told(bare) -> None:
    words = [*WORDS, *(f"word{i}" for i in range(64 - len(WORDS)))]
    pending()
    (bare / "vocab.txt").write_text("\n".join(words))
    load_tokenizer(resolve_encoder("text", str(bare)))
    assert not pending()
    (bare / "vocab.txt").write_text("\n".join(words[:40]))
    load_tokenizer(resolve_encoder("text", str(bare)))
    assert pending() == [
        f"encoder '{bare}': its tokeniser has 40 words, its table of embeddings 64; is it the encoder's own, "
        "and whole?"
    ]


def test_tokens_around_a_text_are_in_the_files(bare) -> None:
    words = [word for word in WORDS if word not in ("[CLS]", "[SEP]")]
    (bare / "vocab.txt").write_text("\n".join(words))
    assert "the vocabulary of its tokeniser lacks [CLS] and [SEP], which it puts" in _refusal(bare)
    (bare / "added_tokens.json").write_text(json.dumps({"[CLS]": 7, "[SEP]": 8}))
    ids = load_tokenizer(resolve_encoder("text", str(bare)))("a")["input_ids"]
    assert len(ids) == 3


def test_nothing_is_read_at_a_cls_that_is_not_there(bert) -> None:
    _change(bert / "tokenizer.json", post_processor=None)
    assert (
        "puts no [CLS] before a text, where the pooling cls reads; accepted: --pooling text=mean"
        in _refusal(bert, "cls")
    )
    assert load_tokenizer(resolve_encoder("text", str(bert), "mean"))("red")["input_ids"] == [5]


def test_words_are_told_apart(bert) -> None:
    _change(bert / "tokenizer.json", pre_tokenizer=None)
    assert "its tokeniser makes one token of two words" in _refusal(bert)


@pytest.mark.parametrize("token", ["eos_token", "sep_token", "unk_token", None])
def test_any_token_pads_if_there_is_none_for_it(bert, token) -> None:
    stated = {} if token is None else {token: "[SEP]" if token == "sep_token" else "[UNK]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **stated}
    (bert / "tokenizer_config.json").write_text(json.dumps(settings))
    if token is None:
        assert "its tokeniser has no token to pad with; accepted: a pad_token, eos_token" in _refusal(bert)
    else:
        tokenizer = load_tokenizer(resolve_encoder("text", str(bert)))
        assert tokenizer.pad_token == stated[token]
        assert tokenizer(["red"], padding="max_length", max_length=5)["attention_mask"] == [[1, 1, 1, 0, 0]]


def _save_pairs(folder: Path, vocabulary: Mapping[str, int], merges: Sequence[str]) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    _change(folder / "config.json", vocab_size=len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))


@pytest.fixture
def gpt2(tiny_encoders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of an encoder whose tokeniser is of byte pairs."""
    return Path(shutil.copytree(tiny_encoders["gpt2"], tmp_path / "gpt2"))


def test_byte_pairs_leave_no_letter_out(gpt2) -> None:
    letters = [*string.ascii_lowercase, *string.digits, "Ġ"]
    _save_pairs(gpt2, {t: i for i, t in enumerate([*letters, "re", "<|endoftext|>"])}, ["r e"])
    tokenizer = load_tokenizer(resolve_encoder("text", str(gpt2)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("red")["input_ids"]) == ["re", "d"]
    _save_pairs(gpt2, {t: i for i, t in enumerate([*letters[1:], "re", "<|endoftext|>"])}, ["r e"])
    assert "its tokeniser leaves out 'a'; its files are incomplete" in _refusal(gpt2)


def test_a_tokeniser_may_remove_digits(bert) -> None:
    digits = {"type": "Replace", "pattern": {"Regex": "[0-9]"}, "content": ""}
    _change(bert / "tokenizer.json", normalizer=digits)
    assert load_tokenizer(resolve_encoder("text", str(bert)))("red 3")["input_ids"] == [2, 5, 3]


def test_byte_pairs_have_their_merges(gpt2) -> None:
    letters = [*string.ascii_lowercase, *string.digits, "Ġ"]
    pairs = [(one, other) for one in letters[:-1] for other in letters[:-1]]
    words = [*letters, *("".join(pair) for pair in pairs), "<|endoftext|>"]
    merges = [" ".join(pair) for pair in pairs]
    _save_pairs(gpt2, {word: i for i, word in enumerate(words)}, merges)
    assert load_tokenizer(resolve_encoder("text", str(gpt2)))("red")["input_ids"]
    _save_pairs(gpt2, {word: i for i, word in enumerate(words)}, merges[:300])
    assert "its tokeniser has 1,334 words, but 300 merges; its files are incomplete" in _refusal(gpt2)
