"""The mean of word embeddings as an encoder."""

from __future__ import annotations

import pytest
import torch

from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import TEXT_FAMILIES, random_inputs
from trainables.towers import InputSizes, load_tower, resolve_encoder


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_is_the_mean_of_an_encoders_word_embeddings(tiny_encoders, family) -> None:
    name = str(tiny_encoders[family])
    encoder = load_tower(resolve_encoder("text", name))
    tower = load_tower(resolve_encoder("text", f"bow:{name}"))
    assert (tower.depth, tower.width) == (0, encoder.width)
    table = encoder.model.get_input_embeddings().weight
    assert [p.shape for p in tower.parameters()] == [table.shape]
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(0))
    for vector, ids, mask in zip(
        tower.pooled(inputs), inputs["input_ids"], inputs["attention_mask"], strict=True
    ):
        assert torch.allclose(vector, table[ids[mask]].mean(dim=0), atol=1e-6)


def test_the_order_of_words_does_not_matter(tiny_encoders) -> None:
    tower = load_tower(resolve_encoder("text", f"bow:{tiny_encoders['bert']}"))
    inputs = random_inputs(tower, 3, torch.Generator().manual_seed(0))
    flipped = {name: value.flip(1) for name, value in inputs.items()}
    assert torch.allclose(tower.pooled(inputs), tower.pooled(flipped), atol=1e-6)


@pytest.mark.parametrize(
    ("method", "config"),
    [("linear", {}), ("late_concat", {}), ("mope", {"main": "image", "complementary_tuning": "frozen"})],
)
def test_serves_methods_that_only_pool(tiny_encoders, method, config) -> None:
    sources = {
        "text": resolve_encoder("text", f"bow:{tiny_encoders['bert']}"),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    towers = {m: load_tower(source) for m, source in sources.items()}
    built = build_method(method, config, MethodContext(towers, 5))
    generator = torch.Generator().manual_seed(0)
    batch = {m: random_inputs(tower, 4, generator) for m, tower in towers.items()}
    assert built(batch).outputs.shape == (4, 5)


def test_memory_of_an_architecture(tiny_encoders) -> None:
    sources = {
        "text": resolve_encoder("text", "bow:arch:bert-base"),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    predictor = MemoryPredictor(sources, classification(5), TrainingSetting(image_size=32))
    assert predictor.predict("linear", {}).weights > 4 * 30522 * 768
    with pytest.raises(UserError, match="without weights"):
        load_tower(sources["text"])


def test_is_found_from_other_processes(tiny_encoders, monkeypatch) -> None:
    folder = tiny_encoders["bert"]
    monkeypatch.chdir(folder.parent)
    source = resolve_encoder("text", "bow:bert")
    assert source.address == f"bow:{folder}"
    assert resolve_encoder("text", source.address).fingerprint() == source.fingerprint()
    assert source.fingerprint() != resolve_encoder("text", "bert").fingerprint()
    assert resolve_encoder("text", "bow:arch:bert-base").address == "bow:arch:bert-base"


def test_takes_the_lengths_that_the_text_encoder_takes(tiny_encoders) -> None:
    source = resolve_encoder("text", f"bow:{tiny_encoders['roberta']}")
    source.check_sizes(InputSizes(text_length=38))
    with pytest.raises(UserError, match="takes 2 to 38 tokens"):
        source.check_sizes(InputSizes(text_length=39))


@pytest.mark.parametrize("name", ["bow:bow:arch:bert-base", "bow:features:dim=3"])
def test_is_made_of_text_encoders(name) -> None:
    with pytest.raises(UserError, match="after 'bow:' a text encoder is named"):
        resolve_encoder("text", name)
    with pytest.raises(UserError, match="encodes image, not text"):
        resolve_encoder("text", "bow:arch:vit-base")
