"""VPT and P-BERT against the PMF paper's figures."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method


def test_prompts_save_little_memory() -> None:
    """On an H200: 16.95 GiB of BERT's 20.67, 3.37 of ViT's 4.99; Table 2: 28.13 of 30.82, 6.12 of 9.36 GB."""
    predictor = base_predictor(batch_size=32, text_length=512)
    ratios = [
        predictor.predict(prompted, {}).total / predictor.predict(tuned, {}).total
        for prompted, tuned in (("p_bert", "text_only"), ("vpt", "image_only"))
    ]
    assert ratios == pytest.approx([0.82, 0.675], abs=0.01)


def test_every_layer_has_prompts_of_its_own_which_go_no_further() -> None:
    torch.manual_seed(0)
    towers = tiny_towers(image="vit")
    method = build_method("vpt", {"n_prompts": 2}, MethodContext(towers, 3)).eval()
    prompts = [p for p in method.trainable_parameters() if p.dim() == 3]
    assert [tuple(p.shape) for p in prompts] == [(1, 2, 48)] * 4
    batch = random_batch(towers)
    model = towers["image"].model
    with torch.no_grad():
        hidden = model.embeddings(batch["image"]["pixel_values"])
        for layer, prompt in zip(model.layers, prompts, strict=True):
            hidden = layer(torch.cat([hidden, prompt.expand(4, -1, -1)], dim=1))[:, :17]
        expected = method.head(model.layernorm(hidden)[:, 0])
        assert torch.allclose(method(batch).outputs, expected, atol=1e-5)


def test_refuses_an_encoder_without_layers() -> None:
    with pytest.raises(UserError, match="the text encoder has none"):
        build_method("p_bert", {}, MethodContext(tiny_towers(text="bag_of_words"), 3))
