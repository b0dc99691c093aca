"""Frozen: a trained encoder's tokens at the input of a frozen one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method


def _build(families: dict[str, str] | None = None, **config: Any) -> Any:
    towers = tiny_towers(**(families or {"text": "bert", "image": "vit"}))
    torch.manual_seed(0)
    return build_method("frozen", config, MethodContext(towers, 3, encoder_dropout=False))


def test_trained_parameters_are_the_image_encoder_and_two_tokens() -> None:
    predictor = base_predictor()
    frozen, image = (predictor.predict(n, {}).trainable_parameters for n in ("frozen", "image_only"))
    assert frozen - image == 769 * 2 * 768  # both have a classifier of width 768


def test_the_gradient_passes_through_the_whole_text_encoder() -> None:
    short, long = (base_predictor(text_length=t).predict("frozen", {}).activations for t in (16, 128))
    added = 2 * (128 - 16) * 768 * 4  # bytes of one hidden state of the words added, batch of 2
    assert long - short > 12 * added


def test_tokens_stand_beside_the_words_and_travel_through_all_layers() -> None:
    method = _build().eval()
    batch = random_batch(method.context.towers)
    text, image = method.tower("text"), method.tower("image")
    with torch.no_grad():
        vector = image.pooled(batch["image"])
        tokens = method.projection(vector).reshape(4, 2, 32)
        expected = method.head(text.pooled(text.encode(batch["text"], 0).prompted(tokens)))
        assert torch.allclose(method(batch).outputs, expected, atol=1e-6)
        assert not torch.allclose(method.head(text.pooled(batch["text"])), expected, atol=1e-4)


@pytest.mark.parametrize("main", ["text", "image"])
@pytest.mark.parametrize("image", ["vit", "swin"])
def test_both_directions_work_over_any_encoder(image, main) -> None:
    method = _build({"text": "bert", "image": image}, main=main).train()
    method(random_batch(method.context.towers)).outputs.square().sum().backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and not p.grad.any()]
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    assert not [n for n in silent if not (n.endswith("bias") and ("key" in n or "k_proj" in n))]
    assert not any(p.requires_grad for p in method.tower(main).parameters())
    assert method.prefix_layers() == {main: 0}


def test_a_bag_of_words_can_be_trained_but_takes_no_tokens() -> None:
    families = {"text": "bag_of_words", "image": "vit"}
    method = _build(families, main="image")
    method(random_batch(method.context.towers)).outputs.sum().backward()
    assert method.tower("text").model.word_embeddings.weight.grad.any()
    with pytest.raises(UserError, match="main=text: its encoder has no layers"):
        _build(families)


def test_refuses_a_main_modality_that_is_not_there() -> None:
    with pytest.raises(UserError, match="main=audio: must be text or image"):
        _build(main="audio")
