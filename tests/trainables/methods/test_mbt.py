"""MBT: figures of the PMF paper, and what passes through the bottleneck."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method


def test_memory_is_that_of_late_concatenation() -> None:
    """Table 2: 38.00 and 38.54 GB."""
    predictor = base_predictor(batch_size=32, text_length=512)
    ratio = predictor.predict("mbt", {}).total / predictor.predict("late_concat", {}).total
    assert ratio == pytest.approx(1, abs=0.02)


def test_is_the_papers_recursion() -> None:
    """Both layers read the same bottleneck tokens and write new ones, which are averaged."""
    torch.manual_seed(0)
    towers = tiny_towers(text="bert", title="bert")
    method = build_method("mbt", {"n_fusion_layers": 2, "n_bottlenecks": 3}, MethodContext(towers, 5)).eval()
    batch = random_batch(towers)
    with torch.no_grad():
        hidden, bias = {}, {}
        for modality, tower in towers.items():
            mask = torch.nn.functional.pad(batch[modality]["attention_mask"], (0, 3), value=True)
            bias[modality] = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
            bias[modality] = bias[modality][:, None, None]
            hidden[modality] = tower.model.embeddings(input_ids=batch[modality]["input_ids"])
            hidden[modality] = tower.model.encoder.layer[0](hidden[modality], bias[modality][..., :-3])
        shared = method.bottlenecks.expand(4, -1, -1)
        for index in (1, 2):
            out = {
                m: tower.model.encoder.layer[index](torch.cat([hidden[m], shared], dim=1), bias[m])
                for m, tower in towers.items()
            }
            hidden = {m: o[:, :-3] for m, o in out.items()}
            shared = (out["text"][:, -3:] + out["title"][:, -3:]) / 2
        expected = sum(method.head.heads[m](h[:, 0]) for m, h in hidden.items()) / 2
        assert torch.allclose(method(batch).outputs, expected, atol=1e-5)


def test_every_modality_hears_every_other() -> None:
    torch.manual_seed(0)
    towers = tiny_towers(text="bert", image="vit", title="distilbert", view="dinov2")
    method = build_method("mbt", {}, MethodContext(towers, 3)).eval()
    batch, other = random_batch(towers), random_batch(towers, seed=1)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(5)  # at the initial scale the effect would be rounding
        for listener in towers:
            for modality, head in method.head.heads.items():
                head.weight.normal_(std=float(modality == listener))
            for speaker in towers:
                before, after = method(batch).outputs, method({**batch, speaker: other[speaker]}).outputs
                assert not torch.allclose(before, after, atol=1e-5), (listener, speaker)


def test_only_other_widths_get_maps_and_none_that_never_train() -> None:
    # Of width 32 are the bottleneck tokens; ViT's is 48, Swin's 24 and in the last two layers 48
    method = build_method("mbt", {}, MethodContext(tiny_towers(text="bert", image="vit"), 3))
    assert list(method.readers) == list(method.writers) == ["image_48"]
    assert method.bottlenecks.shape == (1, 4, 32)
    towers = tiny_towers(image="swin", view="vit")
    method = build_method("mbt", {"n_fusion_layers": 3}, MethodContext(towers, 3))
    assert list(method.readers) == list(method.writers) == ["image_48", "view_48"]
    assert method.bottlenecks.shape == (1, 4, 24)
    method(random_batch(towers)).outputs.sum().backward()
    assert all(p.grad is not None for p in method.trainable_parameters())


def test_refuses_more_layers_than_the_shallower_encoder_has() -> None:
    towers = tiny_towers(text="bert", image="vit")
    with pytest.raises(UserError, match=r"n_fusion_layers=4: must be 2 to 3.*text 3, image 4"):
        build_method("mbt", {"n_fusion_layers": 4}, MethodContext(towers, 3))
