"""What every fusion method must satisfy, for every registered method and each of its variants."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from tests.conftest import tiny_model
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, measure_memory
from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.setting import TrainingSetting
from trainables.step import forward_loss, update
from trainables.tasks import get_task
from trainables.towers import FAMILIES, InputSizes, Tower, resolve_encoder

CLASSES = 5
SIZES = InputSizes(text_length=10, image_size=32)

#: Configurations to run beside each method's default and beside those with one option changed.
COMBINATIONS: dict[str, list[dict[str, Any]]] = {
    "pmf": [{"n_fusion_layers": 3, "n_fusion_context_prompts": 0, "n_query_prompts": 2}],
}


def _others(name: str) -> dict[str, Any]:
    """Return each option's other value."""
    return {f.name: f.metadata["other"] for f in dataclasses.fields(METHODS[name].config_class)}


CASES = [
    (name, config)
    for name in METHODS
    for config in ({}, *({key: value} for key, value in _others(name).items()), *COMBINATIONS.get(name, []))
]
PAIRS = [("bert", "vit"), ("distilbert", "dinov2")]

each_case = pytest.mark.parametrize(("name", "config"), CASES, ids=lambda v: str(v))


def _towers(pair: tuple[str, str] = PAIRS[0]) -> dict[str, Tower]:
    return {
        FAMILIES[family].modality: FAMILIES[family].tower(FAMILIES[family].modality, tiny_model(family))
        for family in pair
    }


def _build(name: str, config: dict[str, Any], **options: Any) -> FusionMethod:
    torch.manual_seed(0)
    return build_method(
        name, config, MethodContext(options.pop("towers", None) or _towers(), CLASSES, SIZES, **options)
    )


def _batch(size: int = 6) -> tuple[dict[str, dict[str, torch.Tensor]], torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, 64, (size, 10), generator=generator)
    mask = torch.ones(size, 10, dtype=torch.bool)
    mask[1::2, 6:] = False
    ids[~mask] = 0
    pixels = torch.randn(size, 3, 32, 32, generator=generator)
    labels = torch.arange(size) % CLASSES
    return {"text": {"input_ids": ids, "attention_mask": mask}, "image": {"pixel_values": pixels}}, labels


def _train(method: FusionMethod, steps: int, learning_rate: float = 1e-2) -> list[float]:
    setting = TrainingSetting(batch_size=6)
    optimizer = setting.make_optimizer(method.trainable_parameters(), learning_rate)
    inputs, labels = _batch()
    method.train()
    losses = []
    for _ in range(steps):
        loss = forward_loss(method, inputs, labels, get_task("classification"), setting)
        update(loss, optimizer)
        losses.append(loss.item())
    return losses


@each_case
def test_frozen_stays_frozen_and_the_rest_trains(name, config) -> None:
    method = _build(name, config)
    trainable = {n for n, p in method.named_parameters() if p.requires_grad}
    before = copy.deepcopy(method.state_dict())
    _train(method, steps=2)
    changed = {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == trainable
    assert method.trainable_parameter_count() == sum(before[n].numel() for n in trainable)
    assert set(method.trainable_state_dict()) == trainable


@each_case
def test_every_trained_parameter_gets_a_gradient(name, config) -> None:
    method = _build(name, config)
    setting = TrainingSetting()
    inputs, labels = _batch()
    method.train()
    forward_loss(method, inputs, labels, get_task("classification"), setting).backward()
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    silent = [
        n
        for n, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any()) and "key" not in n and "k_" not in n
    ]
    assert not silent
    assert not [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]


@each_case
def test_loss_falls(name, config) -> None:
    losses = _train(_build(name, config, encoder_dropout=False), steps=25)
    assert min(losses[-3:]) < 0.7 * losses[0]


@each_case
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_evaluation_does_not_depend_on_order_size_or_padding(name, config, pair) -> None:
    method = _build(name, config, towers=_towers(pair)).eval()
    inputs, _ = _batch()
    with torch.no_grad():
        logits = method(inputs).logits
        assert logits.shape == (6, CLASSES)
        assert torch.equal(method(inputs).logits, logits)
        flipped = {m: {k: v.flip(0) for k, v in tensors.items()} for m, tensors in inputs.items()}
        assert torch.allclose(method(flipped).logits.flip(0), logits, atol=1e-5)
        one = {m: {k: v[1:2] for k, v in tensors.items()} for m, tensors in inputs.items()}
        one["text"] = {k: v[:, :6] for k, v in one["text"].items()}  # its four padded tokens cut off
        assert torch.allclose(method(one).logits, logits[1:2], atol=1e-5)


@each_case
def test_training_from_a_cached_prefix_is_the_same(name, config) -> None:
    method = _build(name, config).eval()
    inputs, _ = _batch()
    prefix = method.prefix(inputs)
    with torch.no_grad():
        cached = method({**inputs, **prefix}).logits
        assert torch.allclose(cached, method(inputs).logits, atol=1e-6)
    assert {m: s.layer for m, s in prefix.items()} == method.prefix_layers()


@each_case
def test_skipping_unused_outputs_changes_nothing(name, config) -> None:
    results = []
    for skip in (False, True):
        towers = _towers()
        for tower in towers.values():
            tower.skip_unused = skip
        method = _build(name, config, towers=towers, encoder_dropout=False)
        if not method.trained_encoders(method.context, method.config):
            _train(method, steps=1)
        with torch.no_grad():
            results.append(method.eval()(_batch()[0]).logits)
    assert torch.allclose(*results, atol=1e-4)


@each_case
def test_save_and_load(name, config) -> None:
    trained = _build(name, config)
    _train(trained, steps=2)
    state = {n: value.clone() for n, value in trained.trainable_state_dict().items()}
    torch.manual_seed(7)
    fresh = build_method(name, config, MethodContext(_towers(), CLASSES, SIZES))
    fresh.load_trainable_state_dict(state)
    inputs, _ = _batch()
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs).logits, trained.eval()(inputs).logits)
    with pytest.raises(UserError, match="another configuration"):
        fresh.load_trainable_state_dict({"other": torch.zeros(1)})


@each_case
@pytest.mark.parametrize(
    ("attention", "precision", "optimizer"),
    [("eager", "fp32", "adamw"), ("sdpa", "bf16", "sgd")],
)
def test_predicted_memory_is_the_tracked_peak(
    tiny_encoders, name, config, attention, precision, optimizer
) -> None:
    setting = TrainingSetting(
        batch_size=6,
        text_length=10,
        image_size=32,
        precision=precision,
        attention=attention,
        optimizer=optimizer,
    )
    sources = {
        "text": resolve_encoder("text", str(tiny_encoders["bert"])),
        "image": resolve_encoder("image", str(tiny_encoders["vit"])),
    }
    predicted = MemoryPredictor(sources, CLASSES, setting).predict(name, config)
    towers = _towers()
    for tower in towers.values():
        tower.model.config._attn_implementation = attention
    method = _build(name, config, towers=towers)
    inputs, labels = _batch()
    real = measure_memory(method, inputs, labels, setting)
    assert predicted == real  # to the byte, in every part
    assert predicted.total == sum(v for k, v in predicted.to_dict().items() if k != "total")
    assert predicted.trainable_parameters == method.trainable_parameter_count()


@each_case
def test_works_in_bf16_autocast(name, config) -> None:
    method = _build(name, config)
    setting = TrainingSetting(precision="bf16")
    inputs, labels = _batch()
    loss = forward_loss(method, inputs, labels, get_task("classification"), setting)
    loss.backward()
    assert torch.isfinite(loss)


@each_case
def test_gradient_graph_stops_at_the_prefix(name, config) -> None:
    method = _build(name, config)
    touched = []
    for modality, stop in method.prefix_layers().items():
        for layer in method.tower(modality).layers[:stop]:
            layer.register_forward_hook(lambda _m, _i, out: touched.append(out.requires_grad))
    method.train()
    method(_batch()[0])
    assert not any(touched)


@pytest.mark.parametrize("name", METHODS)
def test_refuses_unknown_settings(name) -> None:
    with pytest.raises(UserError, match="nonsense"):
        build_method(name, {"nonsense": 1}, MethodContext(_towers(), CLASSES))


@pytest.mark.parametrize(
    ("name", "option"), [(n, f.name) for n in METHODS for f in dataclasses.fields(METHODS[n].config_class)]
)
def test_every_option_matters_and_is_checked(name, option) -> None:
    """Another value changes parameters, memory or the loss; one out of range is refused."""
    config = METHODS[name].config_class
    meta = next(f.metadata for f in dataclasses.fields(config) if f.name == option)
    seen = []
    for changes in ({}, {option: meta["other"]}):
        method = _build(name, changes)
        inputs, labels = _batch()
        parameters = method.trainable_parameter_count()
        report = measure_memory(method, inputs, labels, TrainingSetting(batch_size=6))
        seen.append((parameters, report.total, _train(method, steps=1)))
    assert seen[0] != seen[1]
    bad = []
    if meta["low"] is not None:
        bad.append(meta["low"] - 1)
    if meta["high"] is not None:
        bad.append(meta["high"] + 1)
    if meta["choices"] is not None:
        bad.append("nonsense")
    for value in bad:
        with pytest.raises(UserError, match=f"{option}=.*must be"):
            config(**{option: value})


@pytest.mark.parametrize("name", METHODS)
def test_is_described(name) -> None:
    spec = METHODS[name]
    assert spec.description
    assert spec.source
    assert all(field.metadata["help"] for field in dataclasses.fields(spec.config_class))
