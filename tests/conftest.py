"""Small encoders and data that many tests share; random weights, real code paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.plugin import Plugin
from trainables.towers import InputSizes, Tower

# Before Ray, MLflow or transformers are imported by any test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
torch.set_num_threads(1)  # small tensors, and tests run side by side

CONFORMANCE = Path(__file__).parent / "conformance"
EXAMPLE_PLUGIN = Path(__file__).parent.parent / "examples" / "gated_fusion.py"

TEXT_FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "clip_text_model")
IMAGE_FAMILIES = ("vit", "deit", "dinov2", "swin", "clip_vision_model")
AUDIO_FAMILIES = ("wav2vec2", "hubert", "whisper")
#: Those that take the place of an encoder pretrained for one modality.
OTHER_FAMILIES = ("bag_of_words", "features")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests share a process, where tests run in several, and start with whole searches.

    Whole searches share one Ray. They come first because they wait more than they compute, so that others run
    beside them. A file's tests stay together for the sake of its fixtures, but for those of the conformance
    suites, which have none of their own and fill up what time is left.
    """
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))
        elif CONFORMANCE not in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


#: Sizes of the inputs that tests give to small models.
SIZES = InputSizes(text_length=10, image_size=32, audio_seconds=0.2, feature_length=10)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="file with methods to test, too")


def pytest_configure(config: pytest.Config) -> None:
    for path in (EXAMPLE_PLUGIN, *config.getoption("--plugin")):
        Plugin.read(path).load()


def random_inputs(
    tower: Tower, size: int, generator: torch.Generator, padded: bool = True, sizes: InputSizes = SIZES
) -> dict[str, torch.Tensor]:
    """Return random inputs of a tower for ``size`` samples.

    Where the family knows padding, odd rows are real up to 60 % of their length only: ``attention_mask`` is
    False behind it, and what stands there is what a data set would pad with.
    """
    inputs = tower.example_inputs(size, sizes)
    for name, value in inputs.items():
        if value.is_floating_point():
            inputs[name] = torch.randn(value.shape, generator=generator)
        elif name == "input_ids":
            inputs[name] = torch.randint(5, tower.model.config.vocab_size, value.shape, generator=generator)
    mask = inputs.get("attention_mask")
    if padded and mask is not None:
        mask[1::2, real_length(mask) :] = False
        for name, value in inputs.items():
            if name == "input_ids":
                value[~mask] = getattr(tower.model.config, "pad_token_id", None) or 0
            elif name == "input_features":  # (B, bands, frames)
                value.masked_fill_(~mask[:, None], 0)
            elif value.is_floating_point():
                value[~mask] = 0
    return inputs


def real_length(mask: torch.Tensor) -> int:
    """Return the real length of the rows that ``random_inputs`` pads."""
    return mask.shape[1] * 6 // 10


def tiny_model(family: str) -> torch.nn.Module:
    """Return a small Hugging Face model of a family with random weights."""
    import transformers as hf

    from trainables.towers.models.bag_of_words import BagOfWordsConfig, BagOfWordsModel
    from trainables.towers.models.features import FeaturesConfig, FeaturesModel

    torch.manual_seed(0)
    text = {"vocab_size": 64, "max_position_embeddings": 40}
    image = {"image_size": 32, "patch_size": 8, "initializer_range": 0.1}
    size = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    # 320 samples a frame, as real ones
    sound = {
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (10, 8, 4),
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
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
        "gpt2": lambda: hf.GPT2Model(
            hf.GPT2Config(
                vocab_size=64,
                n_positions=40,
                n_embd=32,
                n_layer=3,
                n_head=4,
                bos_token_id=3,
                eos_token_id=3,
                initializer_range=0.1,
            )
        ),
        "bag_of_words": lambda: BagOfWordsModel(
            BagOfWordsConfig(vocab_size=64, hidden_size=32, max_position_embeddings=40)
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
        # Maps of 8 x 8 and 4 x 4 patches: both need padding and have shifted windows
        "swin": lambda: hf.SwinModel(
            hf.SwinConfig(
                **{**image, "patch_size": 4},
                embed_dim=24,
                depths=(2, 2),
                num_heads=(2, 4),
                window_size=3,
            ),
            add_pooling_layer=False,
        ),
        "clip_text_model": lambda: hf.CLIPTextModel(
            hf.CLIPTextConfig(
                **text, **size, num_hidden_layers=3, bos_token_id=2, eos_token_id=3, pad_token_id=0
            )
        ),
        "clip_vision_model": lambda: hf.CLIPVisionModel(
            hf.CLIPVisionConfig(**{**size, "hidden_size": 48}, **image, num_hidden_layers=4)
        ),
        # The base models of the two have a group norm and post-LN layers, the large ones this:
        "hubert": lambda: hf.HubertModel(
            hf.HubertConfig(
                **size, **sound, num_hidden_layers=3, feat_extract_norm="layer", do_stable_layer_norm=True
            )
        ),
        "wav2vec2": lambda: hf.Wav2Vec2Model(hf.Wav2Vec2Config(**size, **sound, num_hidden_layers=3)),
        "whisper": lambda: hf.WhisperModel(
            hf.WhisperConfig(
                vocab_size=64,
                num_mel_bins=8,
                d_model=32,
                encoder_layers=3,
                encoder_attention_heads=4,
                encoder_ffn_dim=64,
                decoder_layers=1,
                decoder_attention_heads=4,
                decoder_ffn_dim=64,
                max_source_positions=10,
                max_target_positions=10,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=3,
                init_std=0.1,
            )
        ),
        "features": lambda: FeaturesModel(
            FeaturesConfig(**size, feature_size=6, num_hidden_layers=3, max_position_embeddings=40)
        ),
    }
    return models[family]().eval()


def encoder_name(encoders: dict[str, Path], family: str) -> str:
    """Return the name under which the small encoder of a family is found."""
    return f"bow:{encoders['bert']}" if family == "bag_of_words" else str(encoders[family])


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with saved weights a family; text ones hold a word-level tokeniser."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("encoders")
    words = ["[PAD]", "<pad>", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "square", "a", "the"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folders = {}
    for family in (*TEXT_FAMILIES, *IMAGE_FAMILIES, *AUDIO_FAMILIES, "features"):
        folders[family] = root / family
        tiny_model(family).save_pretrained(folders[family])
        # GPT-2's has no padding and puts nothing around a text
        tokenizer.post_processor = None if family == "gpt2" else template
        if family == "gpt2":
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]"
            ).save_pretrained(folders[family])
        elif family in TEXT_FAMILIES:
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


@pytest.fixture
def trial_spec(workplace, tiny_encoders, squares) -> Any:
    """What trials of a tiny search share."""
    from trainables.data import open_dataset, prepare
    from trainables.step.setting import TrainingSetting
    from trainables.towers import resolve_encoder
    from trainables.trial.workbench import TrialSpec

    names = {"text": str(tiny_encoders["bert"]), "image": str(tiny_encoders["vit"])}
    encoders = {modality: resolve_encoder(modality, name) for modality, name in names.items()}
    data = prepare(open_dataset(str(squares)), encoders, text_length=8, image_size=32)
    return TrialSpec(
        dataset=str(squares),
        prepared=data.key,
        encoders=names,
        fingerprints={modality: encoder.fingerprint() for modality, encoder in encoders.items()},
        setting=TrainingSetting(batch_size=8, text_length=8, image_size=32),
        epochs=4,
    )
