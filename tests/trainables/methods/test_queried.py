"""A method beside a query: what is fused, and what finds it."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.errors import UserError
from trainables.methods import MethodContext, Queried, Query, build_method
from trainables.methods.heads import head_features, head_inputs, query_features, query_inputs, set_head
from trainables.testing.cases import make_batch
from trainables.testing.tiny import SIZES, tiny_tower

FAMILIES = {"text": "bert", "caption": "distilbert", "image": "vit"}


def build(query: Query, name: str = "linear") -> Queried:
    torch.manual_seed(0)
    towers = {modality: tiny_tower(modality, family) for modality, family in FAMILIES.items()}
    method = build_method(name, {}, MethodContext(towers, 8, SIZES, query=query))
    assert isinstance(method, Queried)
    return method


def test_the_query_is_not_fused() -> None:
    method = build(Query("caption")).eval()
    assert method.document.modalities == ("text", "image")
    assert set(method.modalities) == set(FAMILIES)
    inputs, _ = make_batch(dict(method.context.towers))
    for modality in FAMILIES:
        other = {**inputs, modality: {k: v.flip(0) for k, v in inputs[modality].items()}}
        with torch.no_grad():
            same = (method(other).outputs == method(inputs).outputs).all(dim=0)
        documents, queries = same[:4].all(), same[4:].all()
        assert (documents, queries) == ((True, False) if modality == "caption" else (False, True))


@pytest.mark.parametrize(("name", "trains"), [("full_finetune", True), ("lora", False), ("frozen", False)])
def test_full_fine_tuning_is_that_of_the_query_too(name, trains) -> None:
    """``frozen`` trains one of its two encoders."""
    method = build(Query("caption"), name)
    assert all(parameter.requires_grad is trains for parameter in method.tower("caption").parameters())
    assert ("caption" in method.prefix_layers()) is not trains


def test_the_outputs_are_the_heads_and_the_projections_scaled() -> None:
    method = build(Query("caption", temperature=0.1)).eval()
    inputs, _ = make_batch(dict(method.context.towers))
    with torch.no_grad(), head_inputs(method) as fused, query_inputs(method) as asked:
        outputs = method(inputs).outputs
        documents = torch.nn.functional.normalize(method.document.head(fused[0])) * 10
        queries = torch.nn.functional.normalize(method.projection(asked[0]))
    torch.testing.assert_close(outputs, torch.cat([documents, queries], dim=1))
    assert asked[0].shape[1] == query_features(method) == method.tower("caption").width
    assert fused[0].shape[1] == head_features(method)
    weight, bias = torch.randn(4, fused[0].shape[1]), torch.randn(4)
    set_head(method, weight, bias)
    with torch.no_grad():
        documents = torch.nn.functional.normalize(fused[0] @ weight.T + bias) * 10
        torch.testing.assert_close(method(inputs).outputs[:, :4], documents)


def test_the_temperature_is_at_least_a_hundredth_and_is_only_there_if_it_is_learnt() -> None:
    method = build(Query("caption", temperature=0.07))
    assert method.log_scale is not None
    method.log_scale.data.fill_(math.log(1e6))
    inputs, _ = make_batch(dict(method.context.towers))
    with torch.no_grad():
        lengths = method.eval()(inputs).outputs[:, :4].norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 100))
    assert build(Query("caption")).log_scale is None


def test_the_projection_learns_as_the_head_does() -> None:
    method = build(Query("caption", 0.07), "pmf")
    heads = {id(p) for group in method.parameter_groups() if group.head for p in group.parameters}
    assert heads == {id(p) for p in (*method.document.head.parameters(), *method.projection.parameters())}


def test_a_query_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="--query sound: must be text or caption or image"):
        build(Query("sound"))
