"""Small encoders and data that many tests share; random weights, real code paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Before Ray, MLflow or transformers are imported by any test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

TEXT_FAMILIES = ("bert", "roberta", "distilbert")
IMAGE_FAMILIES = ("vit", "deit", "dinov2")


def tiny_model(family: str) -> torch.nn.Module:
    """Return a small Hugging Face model of a family with random weights."""
    import transformers as hf

    torch.manual_seed(0)
    text = {"vocab_size": 64, "max_position_embeddings": 40}
    image = {"image_size": 32, "patch_size": 8, "initializer_range": 0.1}
    size = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    models = {
        "bert": lambda: hf.BertModel(
            hf.BertConfig(**text, **size, num_hidden_layers=3), add_pooling_layer=False
        ),
        "roberta": lambda: hf.RobertaModel(
            hf.RobertaConfig(**text, **size, num_hidden_layers=3, pad_token_id=1), add_pooling_layer=False
        ),
        "distilbert": lambda: hf.DistilBertModel(
            hf.DistilBertConfig(**text, dim=32, n_heads=4, hidden_dim=64, n_layers=3)
        ),
        "vit": lambda: hf.ViTModel(
            hf.ViTConfig(**image, **{**size, "hidden_size": 48}, num_hidden_layers=4), add_pooling_layer=False
        ),
        "deit": lambda: hf.DeiTModel(
            hf.DeiTConfig(**image, **{**size, "hidden_size": 48}, num_hidden_layers=4),
            add_pooling_layer=False,
        ),
        "dinov2": lambda: hf.Dinov2Model(
            hf.Dinov2Config(**image, hidden_size=48, num_attention_heads=4, num_hidden_layers=4)
        ),
    }
    return models[family]().eval()


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with saved weights a family; text ones hold a word-level tokeniser."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("encoders")
    words = ["[PAD]", "<pad>", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "square", "a", "the"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folders = {}
    for family in (*TEXT_FAMILIES, *IMAGE_FAMILIES):
        folders[family] = root / family
        tiny_model(family).save_pretrained(folders[family])
        if family in TEXT_FAMILIES:
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer,
                pad_token="<pad>" if family == "roberta" else "[PAD]",
                cls_token="[CLS]",
                sep_token="[SEP]",
                unk_token="[UNK]",
            ).save_pretrained(folders[family])
    return folders


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder: noisy squares in three colours with a title, 48 + 12 + 12 rows."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    folder = tmp_path_factory.mktemp("squares")
    generator = np.random.default_rng(0)
    colours = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
    for split, rows in (("train", 48), ("validation", 12), ("test", 12)):
        columns: dict[str, list[object]] = {"text": [], "image": [], "label": []}
        for row in range(rows):
            name = list(colours)[row % 3]
            noise = generator.integers(-30, 30, (36, 40, 3))
            pixels = np.clip(np.array(colours[name]) + noise, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            columns["text"].append(f"a {name} square" if row % 2 else "the square")
            columns["image"].append(buffer.getvalue())
            columns["label"].append(name)
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path
