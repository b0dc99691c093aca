"""CLIP: two encoders in one model, one of them causal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.errors import UserError
from trainables.towers import InputSizes, Sequence, Tower, load_tower, resolve_encoder

BOS, EOS = 62, 63
#: Texts as CLIP's tokeniser makes them: the end-of-text token ends a text and pads it.
TEXTS = {
    "input_ids": torch.tensor(
        [[BOS, 7, 8, 9, 5, EOS], [BOS, 9, EOS, EOS, EOS, EOS], [BOS, 4, 4, 5, EOS, EOS]]
    ),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]),
}


def _save(folder: Path, eos_token_id: int = EOS) -> Path:
    import transformers as hf

    torch.manual_seed(0)
    size = {"num_attention_heads": 4, "intermediate_size": 64}
    text = {"vocab_size": 64, "max_position_embeddings": 12, "hidden_size": 32, "num_hidden_layers": 3}
    image = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4}
    config = hf.CLIPConfig(
        text_config={**size, **text, "bos_token_id": BOS, "eos_token_id": eos_token_id},
        vision_config={**size, **image},
    )
    hf.CLIPModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model of both encoders."""
    return _save(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def text(folder: Path) -> Tower:
    """The text encoder."""
    return load_tower(resolve_encoder("text", str(folder)))


@pytest.fixture(scope="module")
def image(folder: Path) -> Tower:
    """The image encoder."""
    return load_tower(resolve_encoder("image", str(folder)))


def test_one_folder_holds_both_encoders(folder) -> None:
    text, image = resolve_encoder("text", str(folder)), resolve_encoder("image", str(folder))
    assert (text.depth, text.width, text.max_text_length) == (3, 32, 12)
    assert (image.depth, image.width, image.image_size) == (4, 48, 32)
    assert text.location == image.location == str(folder)
    assert text.fingerprint() != image.fingerprint()


def test_its_word_embeddings_make_a_bag_of_words(folder, text) -> None:
    bag = load_tower(resolve_encoder("text", f"bow:{folder}"))
    assert torch.equal(bag.model.word_embeddings.weight, text.model.embeddings.token_embedding.weight)


def test_a_third_modality_is_refused(folder) -> None:
    with pytest.raises(UserError, match="encodes text and image, not audio"):
        resolve_encoder("audio", str(folder))


@pytest.mark.parametrize("eos_token_id", [EOS, 2], ids=["", "written before the id was right"])
def test_pools_like_the_library(tmp_path, eos_token_id) -> None:
    import transformers as hf

    folder = str(_save(tmp_path, eos_token_id))
    both = hf.CLIPModel.from_pretrained(folder).eval()
    pixels = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))}
    with torch.no_grad():
        texts = load_tower(resolve_encoder("text", folder)).pooled(TEXTS)
        images = load_tower(resolve_encoder("image", folder)).pooled(pixels)
        assert torch.allclose(texts, both.text_model(**TEXTS).pooler_output, atol=1e-5)
        assert torch.allclose(images, both.vision_model(**pixels).pooler_output, atol=1e-5)


def test_a_text_attends_to_what_stands_before_only(text) -> None:
    changed = {**TEXTS, "input_ids": TEXTS["input_ids"].clone()}
    changed["input_ids"][0, 3] = 11
    with torch.no_grad():
        before, after = (text.encode(inputs, text.depth).tokens for inputs in (TEXTS, changed))
    assert torch.equal(before[0, :3], after[0, :3])
    assert not torch.isclose(before[0, 3:], after[0, 3:]).all(dim=1).any()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_prompts_of_a_text_stand_after_its_start(folder, attention) -> None:
    text = load_tower(resolve_encoder("text", str(folder)), attention=attention)
    generator = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, 3, 2, 32, generator=generator)
    for pairs in (None, (keys, values)):
        with torch.no_grad():
            start = text.embed(TEXTS)
            prompts = torch.randn(3, 2, 32, generator=generator)
            out = text.layer(0, start.prompted(prompts), prefix_tokens=pairs)
            # Put there by hand, as tokens
            first, rest = start.tokens.split([1, 5], dim=1)
            mask = torch.cat([torch.ones(3, 2, dtype=torch.bool), start.mask], dim=1)
            by_hand = Sequence(torch.cat([first, prompts, rest], dim=1), mask, 0)
            whole = text.layer(0, by_hand, prefix_tokens=pairs).tokens
        assert torch.allclose(out.prompts, whole[:, 1:3], atol=1e-6)
        assert torch.allclose(out.tokens, torch.cat([whole[:, :1], whole[:, 3:]], dim=1), atol=1e-6)


def test_prompts_of_an_images_first_layer_are_normalised_with_the_tokens(image) -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 32, 32, generator=generator)
    prompts = torch.randn(2, 3, 48, generator=generator)
    model, layer = image.model, image.layers[0]
    torch.nn.init.normal_(model.pre_layrnorm.weight, generator=generator)
    with torch.no_grad():
        joined = torch.cat([model.embeddings(pixels), prompts], dim=1)
        expected = layer(model.pre_layrnorm(joined), None)
        start = image.embed({"pixel_values": pixels})
        out = image.layer(0, start.prompted(prompts))
        assert torch.allclose(torch.cat([out.tokens, out.prompts], dim=1), expected, atol=1e-5)
        # Those of the second layer are not
        second = image.layer(1, Sequence(out.tokens, None, 1).prompted(prompts))
        expected = image.layers[1](torch.cat([out.tokens, prompts], dim=1), None)
        assert torch.allclose(torch.cat([second.tokens, second.prompts], dim=1), expected, atol=1e-5)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_everything_trains_in_a_trained_fork(text, image, modality) -> None:
    tower = (text if modality == "text" else image).fork(trained=True)
    inputs = tower.example_inputs(2, InputSizes(text_length=6, image_size=32))
    tower.pooled(inputs).square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


@pytest.mark.parametrize(
    ("modality", "name", "size", "tokens"),
    [("text", "clip-text-base", 63_165_952, 77), ("image", "clip-vit-base", 87_456_000, 50)],
)
def test_architectures_have_the_released_models_size(modality, name, size, tokens) -> None:
    """openai/clip-vit-base-patch32 less its two projections and the temperature."""
    source = resolve_encoder(modality, f"arch:{name}")
    with FakeTensorMode():
        tower = load_tower(source, weights=False)
    assert sum(p.numel() for p in tower.parameters()) == size
    assert tower.token_count(0, InputSizes(text_length=77)) == tokens
