"""Wander against the paper's figures, and its factorised forms against the unfactorised one."""

from __future__ import annotations

import string
from typing import Any

import pytest
import torch

from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import FusionMethod, MethodContext, build_method
from trainables.methods.sequence_fusion import (
    CP_FORMS,
    FusionShape,
    OuterProductFusion,
    SequenceFusion,
    VectorFusion,
    VectorFusionOfTokens,
)
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss
from trainables.testing.tiny import SIZES, random_inputs, tiny_model
from trainables.towers import FAMILIES, Tower, resolve_encoder

CLASSES = 4
THREE = ("bert", "vit", "distilbert")
SEVEN = (*THREE, "dinov2", "swin", "bert", "vit")
FORMS = ["wander", "wander_vf", "sf_op", "sf_vf"]


def _towers(*families: str) -> dict[str, Tower]:
    return {f"{f}{i}": FAMILIES[f].tower(f"{f}{i}", tiny_model(f)) for i, f in enumerate(families)}


def _build(name: str, config: dict[str, Any], *families: str) -> FusionMethod:
    torch.manual_seed(0)
    return build_method(name, config, MethodContext(_towers(*families), CLASSES, SIZES))


def _predictor(**setting: Any) -> MemoryPredictor:
    names = {"text": "arch:bert-base", "image": "arch:vit-base"}
    encoders = {m: resolve_encoder(m, name) for m, name in names.items()}
    return MemoryPredictor(encoders, classification(101), TrainingSetting(**setting))


def _batch(method: FusionMethod, size: int = 8) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {m: random_inputs(method.tower(m), size, generator) for m in method.modalities}


def _shape(rank: int = 3, cp: str = CP_FORMS[0], **changes: Any) -> FusionShape:
    sizes: dict[str, Any] = {"lengths": (2, 5, 4), "widths": (6, 3, 5), "target_length": 3, "target_width": 7}
    return FusionShape(**{**sizes, "rank_time": rank + 1, "rank_hidden": rank, "cp": cp, **changes})


def _hidden(shape: FusionShape, samples: int = 2) -> list[torch.Tensor]:
    return [
        torch.randn(samples, length, width) for length, width in zip(shape.lengths, shape.widths, strict=True)
    ]


def _expanded(factors: Any, *, target_first: bool) -> torch.Tensor:
    """Return sum over r of the outer product of the modalities' factors (R, target, size) (Eq. 6, 12)."""
    letters = string.ascii_lowercase[: len(factors)]
    tensor = torch.einsum(f"{','.join(f'zy{x}' for x in letters)}->y{letters}", *factors)
    return tensor if target_first else tensor.movedim(0, -1)


def _unfactorised(fusion: SequenceFusion, shape: FusionShape) -> OuterProductFusion:
    full = OuterProductFusion(shape)
    full.time.data = _expanded(fusion.time, target_first=True)
    full.features.data = _expanded(fusion.features, target_first=False)
    return full


@torch.no_grad()
@pytest.mark.parametrize("modalities", [2, 3])
def test_the_sum_of_products_is_the_outer_product_form(modalities) -> None:
    """Eq. 13, second line, equals Eq. 10 with W_t and W_h of Eq. 6 and 12."""
    torch.manual_seed(0)
    shape = _shape(lengths=(2, 5, 4)[:modalities], widths=(6, 3, 5)[:modalities])
    fusion, hidden = SequenceFusion(shape), _hidden(shape)
    assert torch.allclose(fusion(hidden), _unfactorised(fusion, shape)(hidden), atol=1e-5)
    halfway = VectorFusionOfTokens(shape)
    halfway.features, halfway.time.data = fusion.features, _expanded(fusion.time, target_first=True)
    assert torch.allclose(fusion(hidden), halfway(hidden), atol=1e-5)


@torch.no_grad()
def test_the_outer_product_form_is_equation_10() -> None:
    torch.manual_seed(0)
    shape = _shape()
    full, hidden = OuterProductFusion(shape), _hidden(shape)
    expected = torch.einsum("tijk,zia,zjb,zkc,abch->zth", full.time, *hidden, full.features)
    assert torch.allclose(full(hidden), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("rank_time", "rank_hidden"), [(1, 1), (2, 1), (1, 2), (4, 3)])
def test_the_product_of_sums_is_another_function_unless_the_ranks_are_1(rank_time, rank_hidden) -> None:
    """Eq. 13's second and third line, said to be equal."""
    torch.manual_seed(0)
    shape = _shape(cp="product_of_sums", rank_time=rank_time, rank_hidden=rank_hidden)
    fusion, hidden = SequenceFusion(shape), _hidden(shape)
    same = torch.allclose(fusion(hidden), _unfactorised(fusion, shape)(hidden), atol=1e-5)
    assert same is (rank_time == rank_hidden == 1)
    # It is an interaction of rank 1 with the sums as factors
    collapsed = SequenceFusion(_shape(rank_time=1, rank_hidden=1))
    for mine, its in zip([*collapsed.time, *collapsed.features], fusion.parameters(), strict=True):
        mine.data = its.sum(dim=0, keepdim=True)
    assert torch.allclose(fusion(hidden), collapsed(hidden), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("cp", CP_FORMS)
def test_vector_fusion_is_sequence_fusion_of_one_token(cp) -> None:
    shape = _shape(cp=cp, lengths=(1, 1, 1), target_length=1, rank_time=1)
    vector, sequence, hidden = VectorFusion(shape), SequenceFusion(shape), _hidden(shape)
    sequence.features = vector.features
    for factor in sequence.time:
        torch.nn.init.ones_(factor)
    assert torch.allclose(vector(hidden), sequence(hidden), atol=1e-6)


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("cp", CP_FORMS)
def test_gradients_of_the_factors_and_of_the_sequences_are_right(cp, modalities) -> None:
    shape = _shape(rank=2, cp=cp, lengths=(2, 3, 1)[:modalities], widths=(2, 3, 2)[:modalities])
    fusion, hidden = SequenceFusion(shape).double(), [h.double() for h in _hidden(shape)]
    names, factors = zip(*fusion.named_parameters(), strict=True)

    def fuse(*tensors: torch.Tensor) -> torch.Tensor:
        values = dict(zip(names, tensors, strict=False))
        return torch.func.functional_call(fusion, values, ([*tensors[len(names) :]],))

    assert torch.autograd.gradcheck(fuse, [*factors, *(h.requires_grad_() for h in hidden)])


@pytest.mark.parametrize("form", [SequenceFusion, VectorFusion, VectorFusionOfTokens, OuterProductFusion])
def test_parameters_are_counted_without_building(form) -> None:
    shape = _shape()
    assert form.parameter_count(shape) == sum(p.numel() for p in form(shape).parameters())


def test_memory_is_close_to_that_of_a_linear_classifier() -> None:
    predictor = _predictor(text_length=512, batch_size=32)
    linear, wander, pmf = (predictor.predict(name, {}).total for name in ("linear", "wander", "pmf"))
    assert wander == pytest.approx(linear, rel=0.1)
    assert wander < 0.5 * pmf
    deeper = [predictor.predict("wander", {"n_layers": n}).total for n in (1, 2, 3)]
    assert deeper == sorted(set(deeper))


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_rank_of_the_features() -> None:
    predictor = _predictor(text_length=32, batch_size=8)
    reports = [predictor.predict("wander", {"target_length": 64, "rank_hidden": rank}) for rank in (1, 8)]
    states = [report.weights + report.gradients + report.optimizer for report in reports]
    grown = reports[1].total - states[1] - (reports[0].total - states[0])
    one_rank = 8 * 8 * 64 * 768 * 4  # a modality's terms of one r_h: B * R_t * d_t * d_h floats
    assert grown < 0.5 * one_rank


@pytest.mark.parametrize("cp", CP_FORMS)
@pytest.mark.parametrize("modalities", [2, 3, 7])
def test_the_scale_of_the_product_does_not_depend_on_the_number_of_modalities(cp, modalities) -> None:
    torch.manual_seed(0)
    shape = FusionShape((12,) * modalities, (16,) * modalities, 8, 64, rank_time=8, rank_hidden=8, cp=cp)
    with torch.no_grad():
        fused = torch.stack([SequenceFusion(shape)(_hidden(shape, samples=8)) for _ in range(20)])
    assert 0.2 < fused.square().mean().sqrt() < 5


def test_training_starts_at_the_frozen_encoders() -> None:
    for config in ({}, {"n_layers": 3}):
        wander, linear = (_build(n, c, "bert", "vit").eval() for n, c in (("wander", config), ("linear", {})))
        linear.load_state_dict({n: v for n, v in wander.state_dict().items() if n in linear.state_dict()})
        inputs = _batch(wander)
        with torch.no_grad():
            assert torch.allclose(wander(inputs).outputs, linear(inputs).outputs, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config", "families"),
    [
        *(
            pytest.param(name, {}, families, marks=pytest.mark.slow)
            for name in FORMS
            for families in (THREE, SEVEN)
        ),
        ("wander", {"n_layers": 2}, SEVEN),
        (
            "wander",
            {"n_layers": 3, "target_length": 8},
            ("bert", "swin"),
        ),  # widths differ from layer to layer
        ("wander", {"n_layers": 2, "residual": False}, ("bert", "swin")),
    ],
)
def test_learns_from_any_number_of_modalities(name, config, families) -> None:
    method = _build(name, config, *families).train()
    inputs, labels = _batch(method), torch.arange(8) % CLASSES
    silent = {n for n, p in method.named_parameters() if p.requires_grad}
    optimizer = TrainingSetting().make_optimizer(method, 5e-3)
    losses = []
    for _ in range(25):
        loss = forward_loss(method, inputs, labels, classification(CLASSES), TrainingSetting())
        loss.backward()
        if len(losses) < 2:
            silent -= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert not silent
    assert min(losses[-3:]) < 0.7 * losses[0]


@pytest.mark.parametrize("name", FORMS)
def test_by_default_no_gradient_enters_the_encoders(name) -> None:
    method = _build(name, {}, "bert", "vit")
    assert method.prefix_layers() == {"bert0": 3, "vit1": 4}
    deeper = _build("wander", {"n_layers": 2}, "bert", "vit")
    assert deeper.prefix_layers() == {"bert0": 2, "vit1": 3}


def test_interacts_with_every_token_but_vector_fusion_with_the_first_only() -> None:
    """Table 7: what sequence fusion adds."""
    for name, reads_tokens in (("wander", True), ("wander_vf", False)):
        method = _build(name, {}, "bert", "vit")
        for parameter in method.adapter.parameters() if name == "wander_vf" else method.adapters.parameters():
            torch.nn.init.normal_(parameter)
        method.eval()
        with torch.no_grad():
            prefix = method.prefix(_batch(method))
            logits = method(prefix).outputs
            prefix["vit1"].tokens[:, 5] += 1
            assert torch.allclose(method(prefix).outputs, logits) is not reads_tokens


def test_fused_tokens_are_not_more_than_the_longest_sequence() -> None:
    counts = [
        _build("wander", {"target_length": n}, "bert", "vit").trainable_parameter_count()
        for n in (16, 17, 99)
    ]
    assert counts[0] < counts[1] == counts[2]  # 16 patches and [CLS]


@pytest.mark.parametrize("n", [0, 4])
def test_refuses_more_layers_than_the_shallower_encoder_has(n) -> None:
    with pytest.raises(UserError, match=f"n_layers={n}: must be"):
        _build("wander", {"n_layers": n}, "bert", "vit")


def test_refuses_an_unfactorised_fusion_that_is_too_large() -> None:
    families = ("bert", "vit") * 3
    with pytest.raises(
        UserError, match=r"width=64, length=2: .* 3,298,534,883,392 parameters, more than"
    ) as error:
        _build("sf_op", {"width": 64}, *families)
    assert "lower width or length" in str(error.value)
    with pytest.raises(UserError, match="lower width or length"):
        _build("sf_vf", {"length": 9}, *families, "bert", "vit", "bert")
