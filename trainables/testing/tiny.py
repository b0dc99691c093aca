"""Small encoders with random weights, and inputs for them."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from trainables.towers import FAMILIES, InputSizes, Tower, load_tower, resolve_encoder

TEXT_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "gpt2", "clip_text_model")
IMAGE_FAMILIES = ("vit", "deit", "dinov2", "dinov2_with_registers", "swin", "clip_vision_model")
AUDIO_FAMILIES = ("wav2vec2", "hubert", "whisper")
#: Families whose padding has the number 1, because positions are counted from it.
PADDED_AT_ONE = ("roberta", "xlm-roberta", "camembert")
#: Families that replace an encoder pretrained for one modality.
OTHER_FAMILIES = ("bag_of_words", "features")

#: A new tower of extracted features. Its weights are random, so that it trains with every method.
RANDOM = "features:dim=6,width=32,depth=3,heads=4,max_length=40"

#: Sizes of the inputs that tests give to small models.
SIZES = InputSizes(text_length=10, image_size=32, audio_seconds=0.2, feature_length=10)

#: ImageNet's statistics, as image encoders state them.
_PIXELS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

#: The two modalities that most checks use.
MODALITIES = ("text", "image")


def random_inputs(
    tower: Tower, size: int, generator: torch.Generator, padded: bool = True, sizes: InputSizes = SIZES
) -> dict[str, torch.Tensor]:
    """Return random inputs of a tower for ``size`` samples.

    If the family has an ``attention_mask``, the last 40 % of odd rows are padding: the mask is False there,
    and the input has the value with which a dataset would pad.
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
    """Return the length without padding of the rows that ``random_inputs`` pads."""
    return mask.shape[1] * 6 // 10


def tiny_model(family: str) -> Any:
    """Return a small Hugging Face model of a family with random weights."""
    import transformers as hf

    from trainables.towers.models.bag_of_words import BagOfWordsModel
    from trainables.towers.models.configuration import BagOfWordsConfig, FeaturesConfig
    from trainables.towers.models.features import FeaturesModel

    torch.manual_seed(0)
    text = {"vocab_size": 64, "max_position_embeddings": 40}
    image = {"image_size": 32, "patch_size": 8, "initializer_range": 0.1}
    size = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    # 320 samples per frame, as in the real encoders
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
        "xlm-roberta": lambda: hf.XLMRobertaModel(
            hf.XLMRobertaConfig(**text, **size, num_hidden_layers=3, pad_token_id=1), add_pooling_layer=False
        ),
        "camembert": lambda: hf.CamembertModel(
            hf.CamembertConfig(**text, **size, num_hidden_layers=3, pad_token_id=1), add_pooling_layer=False
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
        "dinov2_with_registers": lambda: hf.Dinov2WithRegistersModel(
            hf.Dinov2WithRegistersConfig(
                **image, hidden_size=48, num_attention_heads=4, num_hidden_layers=4, num_register_tokens=3
            )
        ),
        # The maps have 8 x 8 and 4 x 4 patches. Both need padding and have shifted windows
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
        # Base models of hubert and wav2vec2 have a group norm and post-LN layers. Large ones have these:
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
    """Return the encoder name that resolves to the small encoder of a family, or to ``RANDOM``."""
    if family == RANDOM:
        return family
    return f"bow:{encoders['bert']}" if family == "bag_of_words" else str(encoders[family])


@functools.cache
def tiny_tower(modality: str, family: str, attention: str = "eager", pooling: str | None = None) -> Tower:
    """Return a tower that checks share, which is safe because methods do not change their towers.

    Args:
        modality: The modality that it encodes.
        family: Name of the encoder's family, or ``RANDOM``.
        attention: Attention kernel.
        pooling: How the tower's vector is read; None takes the family's default.
    """
    if family == RANDOM:
        return load_tower(resolve_encoder(modality, family, pooling), attention=attention)
    tower = FAMILIES[family].tower(modality, tiny_model(family))
    tower.model.config._attn_implementation = attention
    tower.pooling = pooling or tower.pooling
    return tower


def tiny_towers(pair: tuple[str, str] = ("bert", "vit"), attention: str = "eager") -> dict[str, Tower]:
    """Return a text and an image tower of two families."""
    return {m: tiny_tower(m, family, attention) for m, family in zip(MODALITIES, pair, strict=True)}


def save_encoders(root: Path) -> dict[str, Path]:
    """Save the small encoders of all families with a word-level tokeniser, or a statement of their pixels.

    Args:
        root: A folder that exists.

    Returns:
        The folder of each family.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "<pad>", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "square", "a", "the"]
    words += [f"word{number}" for number in range(len(words), 64)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folders = {}
    for family in (*TEXT_FAMILIES, *IMAGE_FAMILIES, *AUDIO_FAMILIES, "features"):
        folders[family] = root / family
        tiny_model(family).save_pretrained(folders[family])
        if family in IMAGE_FAMILIES:
            (folders[family] / "preprocessor_config.json").write_text(json.dumps(_PIXELS))
        # GPT-2's tokeniser has no padding and adds no special tokens
        tokenizer.post_processor = None if family == "gpt2" else template
        if family == "gpt2":
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]"
            ).save_pretrained(folders[family])
        elif family in TEXT_FAMILIES:
            PreTrainedTokenizerFast(
                tokenizer_object=tokenizer,
                pad_token="<pad>" if family in PADDED_AT_ONE else "[PAD]",
                cls_token="[CLS]",
                sep_token="[SEP]",
                unk_token="[UNK]",
            ).save_pretrained(folders[family])
    return folders


@functools.cache
def saved_encoders() -> dict[str, Path]:
    """Return the folders of small encoders, which are saved once and removed when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="paretofuse-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return save_encoders(root)
