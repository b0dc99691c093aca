"""MoPE against the paper's figures and equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainables.methods.paper import (
    base_predictor,
    random_batch,
    swin_parameters,
    tiny_towers,
)
from trainables.errors import UserError
from trainables.methods import FusionMethod, MethodContext, build_method
from trainables.methods.mope import MoPEConfig, PromptExperts, importance_loss


def _build(families: dict[str, str] | None = None, **config: Any) -> FusionMethod:
    towers = tiny_towers(**(families or {"text": "bert", "image": "vit"}))
    torch.manual_seed(0)
    return build_method("mope", config, MethodContext(towers, 3, encoder_dropout=False))


def _batch(method: FusionMethod, size: int = 4, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    return random_batch(method.context.towers, size, seed)


def test_an_expert_costs_its_vectors_and_a_row_of_every_router() -> None:
    """l vectors in each of Swin-B's 24 blocks, whose widths sum to 12,032, and W_r's rows of width 768."""
    few, many = (swin_parameters("mope", n_experts=k) for k in (4, 16))
    assert many - few == 12 * (6 * 12_032 + 24 * 768)


def test_prompting_the_top_layers_only_saves_memory() -> None:
    totals = [
        base_predictor()
        .predict("mope", {"n_prompted_layers": n, "complementary_tuning": "frozen"})
        .activations
        for n in (None, 6, 2)
    ]
    assert totals == sorted(totals, reverse=True)
    assert totals[2] < totals[0] / 3


@pytest.mark.parametrize("routing", ["dense", "top1"])
def test_dynamic_prompts_are_a_combination_of_the_experts(routing) -> None:
    """Eq. 4, and Eq. 7 for the sparse router."""
    torch.manual_seed(0)
    layer = PromptExperts(8, 12, MoPEConfig(n_experts=5, prompt_length=3, routing=routing)).eval()
    vector = torch.randn(6, 8)
    prompts, scores = layer(vector)
    assert torch.allclose(scores, torch.softmax(vector @ layer.router.weight.T / 0.1, dim=-1), atol=1e-6)
    kept = scores if routing == "dense" else scores * (scores == scores.max(dim=-1, keepdim=True).values)
    assert torch.allclose(prompts, torch.einsum("bk,kld->bld", kept, layer.experts), atol=1e-6)


def test_top1_routing_trains_the_router_and_the_expert_kept() -> None:
    torch.manual_seed(0)
    config = MoPEConfig(n_experts=5, routing="top1", routing_noise=0.0, temperature=1.0)
    layer = PromptExperts(8, 12, config)
    prompts, scores = layer(torch.randn(1, 8))
    (prompts * torch.randn_like(prompts)).sum().backward()
    used = layer.experts.grad.flatten(1).any(dim=1)
    assert used.nonzero().flatten().tolist() == [scores.argmax().item()]
    assert layer.router.weight.grad.any()


def test_noise_is_for_training_and_not_for_the_importance() -> None:
    torch.manual_seed(0)
    layer = PromptExperts(8, 12, MoPEConfig(n_experts=4))
    assert layer.noise == 1 / 16
    vector = torch.randn(6, 8)
    noisy, scores = layer.train()(vector)
    assert not torch.equal(layer(vector)[0], noisy)
    assert torch.equal(layer(vector)[1], scores)
    assert torch.equal(layer.eval()(vector)[0], layer(vector)[0])
    assert torch.equal(layer(vector)[1], scores)


def test_importance_is_the_squared_coefficient_of_variation() -> None:
    """Eq. 5 and 6: 0 for balanced experts, k when one expert takes all."""
    torch.manual_seed(0)
    scores = torch.softmax(torch.randn(7, 4), dim=-1)
    summed = scores.sum(dim=0)
    assert torch.allclose(importance_loss(scores, 0.0), (summed.std() / summed.mean()) ** 2)
    assert importance_loss(torch.eye(4), 0.0) == 0
    assert importance_loss(torch.eye(4)[[2] * 5], 0.0) == pytest.approx(4)


@pytest.mark.parametrize(("threshold", "trains"), [(0.05, True), (10.0, False)])
def test_no_gradient_where_experts_are_balanced(threshold, trains) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]], requires_grad=True)
    importance_loss(logits.softmax(dim=-1), threshold).backward()
    assert bool(logits.grad.any()) is trains


def test_importance_loss_is_added_in_training_only() -> None:
    losses = {}
    for weight, noise in ((0.01, 0.0), (0.02, 0.0), (0.01, 3.0)):
        method = _build(importance_weight=weight, routing_noise=noise)
        assert method.eval()(_batch(method)).aux_loss is None
        losses[weight, noise] = method.train()(_batch(method)).aux_loss.item()
    assert losses[0.02, 0.0] == pytest.approx(2 * losses[0.01, 0.0])
    assert losses[0.01, 3.0] == pytest.approx(losses[0.01, 0.0])
    for config in ({"importance_weight": 0.0}, {"dynamic": False}):
        method = _build(**config)
        assert method.train()(_batch(method)).aux_loss is None


def test_prompts_start_as_in_the_released_code() -> None:
    """Uniform, within 0.185 in the main encoder and within 0.3 in the complementary one."""
    method = _build(prompt_length=40, complementary_prompt_length=40)
    bounds = {name: float(p.detach().abs().max()) for name, p in method.named_parameters()}
    for name, bound in bounds.items():
        if name.startswith("static.") or name.endswith(".experts"):
            assert 0.18 < bound <= 0.185
        elif name.startswith("complementary_prompts"):
            assert 0.29 < bound <= 0.3


def test_a_batch_of_one_sample_has_an_importance_too() -> None:
    method = _build().train()
    assert torch.isfinite(method(_batch(method, size=1)).aux_loss)


@pytest.mark.parametrize("main", ["image", "text"])
@pytest.mark.parametrize("image", ["vit", "swin"])
def test_both_directions_work_over_any_encoder(main, image) -> None:
    method = _build({"text": "bert", "image": image}, main=main).train()
    output = method(_batch(method))
    (output.outputs.square().sum() + output.aux_loss).backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and not p.grad.any()]
    assert not any(p.requires_grad for p in method.towers.parameters())
    assert method.head.in_features == method.tower(main).width


def test_prompts_of_every_layer_have_its_width_and_are_dropped_after_it() -> None:
    """Eq. 3: l static, l dynamic and one mapped prompt for each block of Swin, whose stages differ."""
    method = _build({"text": "bert", "image": "swin"}, prompt_length=3).eval()
    tower = method.tower("image")
    seen = []
    run = tower.layer

    def layer(index, sequence, **options):
        seen.append((index, tuple(sequence.prompts.shape)))
        after = run(index, sequence, **options)
        assert after.prompts is None
        return after

    tower.layer = layer
    method(_batch(method))
    assert seen == [(i, (4, 7, width)) for i, width in enumerate((24, 24, 48, 48))]


@pytest.mark.parametrize("kind", ["dynamic", "mapped"])
def test_each_conditional_prompt_alone_carries_the_other_modality(kind) -> None:
    """Table 2: any combination of prompts; static ones alone leave the complementary modality out."""
    kinds = {"static": False, "dynamic": False, "mapped": False}
    method = _build(**{**kinds, kind: True}).eval()
    for parameter in method.trainable_parameters():
        torch.nn.init.normal_(parameter)  # at their initial scale the effect is near rounding
    batch = _batch(method)
    other = {**batch, "text": _batch(method, seed=1)["text"]}
    assert not torch.allclose(method(batch).outputs, method(other).outputs, atol=1e-4)


def test_static_prompts_alone_use_one_modality() -> None:
    method = _build(dynamic=False, mapped=False)
    assert method.modalities == ("image",)
    assert method.prefix_layers() == {"image": 0}
    assert method(_batch(method)).outputs.shape == (4, 3)


@pytest.mark.parametrize(
    ("tuning", "prefix"),
    [("frozen", {"image": 0, "text": 3}), ("prompt", {"image": 0, "text": 0}), ("finetune", {"image": 0})],
)
def test_tuning_of_the_complementary_encoder(tuning, prefix) -> None:
    """Table 4: frozen and fine-tuned, beside the default, prompts."""
    method = _build(complementary_tuning=tuning)
    assert method.prefix_layers() == prefix
    trained = {n for n, p in method.tower("text").named_parameters() if p.requires_grad}
    assert bool(trained) is (tuning == "finetune")
    assert not any(p.requires_grad for p in method.tower("image").parameters())


@pytest.mark.parametrize("tuning", ["frozen", "finetune"])
def test_a_bag_of_words_can_be_complementary(tuning) -> None:
    """Table 4, first row."""
    method = _build({"text": "bag_of_words", "image": "vit"}, complementary_tuning=tuning).train()
    output = method(_batch(method))
    output.outputs.square().sum().backward()
    assert (method.tower("text").model.word_embeddings.weight.grad is not None) is (tuning == "finetune")


def test_prompts_only_the_top_layers_where_told_to() -> None:
    method = _build(n_prompted_layers=1)
    assert method.prefix_layers() == {"image": 3, "text": 0}
    assert _build().trainable_parameter_count() > method.trainable_parameter_count()
    with pytest.raises(
        UserError, match="n_prompted_layers=5: must be 1 to 4, the depth of the image encoder"
    ):
        _build(n_prompted_layers=5)


@pytest.mark.parametrize(
    ("families", "config", "message"),
    [
        ({"text": "bert", "image": "vit"}, {"main": "audio"}, "main=audio: must be text or image"),
        (
            {"text": "bert", "image": "vit"},
            {"static": False, "dynamic": False, "mapped": False},
            "static=false, dynamic=false, mapped=false: at least one must be true",
        ),
        ({"text": "bert", "image": "vit"}, {"n_experts": 1}, "n_experts=1: must be at least 2"),
        ({"text": "bag_of_words", "image": "vit"}, {}, "text encoder has no layers to prompt"),
        ({"text": "bag_of_words", "image": "vit"}, {"main": "text"}, "main=text: its encoder has no layers"),
    ],
)
def test_refuses_what_cannot_be(families, config, message) -> None:
    with pytest.raises(UserError, match=message):
        _build(families, **config)
