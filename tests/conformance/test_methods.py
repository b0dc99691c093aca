"""What every fusion method must satisfy, for every registered method and its options."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conformance.methods import (
    CLASSES,
    MANY,
    PAIRS,
    REFUSED,
    ROWS,
    build,
    each_case,
    each_default,
    make_batch,
    take_step,
    tiny_tower,
    tiny_towers,
    train,
)
from tests.conftest import SIZES, random_inputs, real_length
from tests.tasks import classification
from trainables.errors import UserError
from trainables.memory import measure_memory
from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss


@each_case
def test_frozen_stays_frozen_and_the_rest_trains(name, config) -> None:
    towers = tiny_towers()
    given = {m: {n: v.clone() for n, v in tower.state_dict().items()} for m, tower in towers.items()}
    method = build(name, config, towers)
    trainable = {n for n, p in method.named_parameters() if p.requires_grad}
    before = {n: v.clone() for n, v in method.state_dict().items()}
    train(method, steps=2)
    changed = {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == trainable
    assert method.trainable_parameter_count() == sum(before[n].numel() for n in trainable)
    assert set(method.trainable_state_dict()) == trainable
    # The towers that other methods share are as they were
    for modality, tower in towers.items():
        assert not any(p.requires_grad for p in tower.parameters())
        assert not tower.training
        state = tower.state_dict()
        assert set(state) == set(given[modality])
        assert all(torch.equal(value, given[modality][n]) for n, value in state.items())


@each_case
def test_every_trained_parameter_gets_a_gradient_within_two_steps(name, config) -> None:
    method = build(name, config)
    _assert_gradients(method)
    assert not [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]


def _assert_gradients(method: FusionMethod) -> None:
    optimizer = TrainingSetting().make_optimizer(method.trainable_parameters(), 1e-2)
    silent = {n for n, p in method.named_parameters() if p.requires_grad}
    method.train()
    for _ in range(2):
        take_step(method)
        silent -= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    assert not {n for n in silent if not ("bias" in n and ("key" in n or "k_" in n))}


@each_default
def test_loss_falls(name, config) -> None:
    losses = train(build(name, config, dropout=False), steps=30)
    assert min(losses[-3:]) < 0.7 * losses[0]


@each_default
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_evaluation_does_not_depend_on_order_size_or_padding(name, config, pair) -> None:
    towers = tiny_towers(pair)
    if pair in REFUSED.get(name, ()):
        with pytest.raises(UserError, match="encoder is causal"):
            build(name, config, towers)
        return
    method = build(name, config, towers).eval()
    inputs, _ = make_batch(towers)
    with torch.no_grad():
        logits = method(inputs).outputs
        assert logits.shape == (ROWS, CLASSES)
        assert torch.equal(method(inputs).outputs, logits)
        flipped = {m: {k: v.flip(0) for k, v in tensors.items()} for m, tensors in inputs.items()}
        assert torch.allclose(method(flipped).outputs.flip(0), logits, atol=1e-5)
        one = {m: {k: v[1:2] for k, v in tensors.items()} for m, tensors in inputs.items()}
        for tensors in one.values():
            if "attention_mask" in tensors:  # what is padded is cut off
                length = real_length(tensors["attention_mask"])
                tensors |= {k: v[:, :length] for k, v in tensors.items()}
        assert torch.allclose(method(one).outputs, logits[1:2], atol=1e-5)


@each_default
def test_training_from_a_cached_prefix_is_the_same(name, config) -> None:
    method = build(name, config).eval()
    inputs, _ = make_batch()
    prefix = method.prefix(inputs)
    with torch.no_grad():
        cached = method({**inputs, **prefix}).outputs
        assert torch.allclose(cached, method(inputs).outputs, atol=1e-6)
    assert {m: s.layer for m, s in prefix.items()} == method.prefix_layers()


@each_default
def test_skipping_unused_outputs_changes_nothing(name, config) -> None:
    results = []
    for skip in (False, True):
        method = build(name, config, dropout=False, skip_unused=skip)
        for module in method.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # a method's own: which numbers it draws depends on what is computed
        if not method.trained_encoders(method.context, method.config):
            train(method, steps=1)
        with torch.no_grad():
            results.append(method.eval()(make_batch()[0]).outputs)
    assert torch.allclose(*results, atol=1e-4)


@each_case
def test_save_and_load(name, config, tmp_path) -> None:
    trained = build(name, config)
    train(trained, steps=2)
    path = tmp_path / "weights.safetensors"
    save_file({n: value.contiguous() for n, value in trained.trainable_state_dict().items()}, path)
    torch.manual_seed(7)
    fresh = build_method(name, config, MethodContext(tiny_towers(), CLASSES, SIZES))
    fresh.load_trainable_state_dict(load_file(path))
    inputs, labels = make_batch()
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs).outputs, trained.eval()(inputs).outputs)
    with pytest.raises(UserError, match="another configuration"):
        fresh.load_trainable_state_dict({"other": torch.zeros(1)})
    # The file is what was announced, behind a header whose length its first eight bytes say
    header = int.from_bytes(path.read_bytes()[:8], "little")
    announced = measure_memory(fresh, inputs, labels, TrainingSetting(), classification(CLASSES)).checkpoint
    assert path.stat().st_size == 8 + header + announced


@each_default
def test_gradient_checkpointing_changes_memory_only(name, config) -> None:
    gradients = []
    for checkpointing in (False, True):
        method = build(name, config, gradient_checkpointing=checkpointing)
        method.train()
        torch.manual_seed(1)  # dropout draws the same numbers in the second run of a layer
        take_step(method)
        gradients.append({n: p.grad for n, p in method.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, atol=1e-6), key


@each_default
def test_works_in_bf16_autocast(name, config) -> None:
    method = build(name, config)
    inputs, labels = make_batch()
    loss = forward_loss(method, inputs, labels, classification(CLASSES), TrainingSetting(precision="bf16"))
    loss.backward()
    assert torch.isfinite(loss)


@each_case
def test_gradient_graph_stops_at_the_prefix(name, config) -> None:
    method = build(name, config)
    touched = []
    for modality, stop in method.prefix_layers().items():
        for layer in method.tower(modality).layers[:stop]:
            layer.register_forward_hook(
                lambda _m, _i, out: touched.append((out[0] if isinstance(out, tuple) else out).requires_grad)
            )
    method.train()
    method(make_batch()[0])
    assert not any(touched)


@pytest.mark.parametrize("name", METHODS)
def test_every_modality_counts(name) -> None:
    method = build(name, {})
    train(method, steps=2)  # some start where the others' contribution is zero
    method.eval()
    inputs, _ = make_batch()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        logits = method(inputs).outputs
        for modality in inputs:
            other = {**inputs, modality: random_inputs(tiny_towers()[modality], ROWS, generator)}
            assert torch.equal(method(other).outputs, logits) is (modality not in method.modalities)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", MANY)
def test_takes_three_and_seven_modalities_or_says_why_not(name, count) -> None:
    towers = {m: tiny_tower(m, family) for m, family in MANY[count].items()}
    most = METHODS[name].method.n_modalities[1]
    if most is not None and most < count:
        with pytest.raises(UserError, match=f"modalities, not {count}: text, image"):
            build(name, {}, towers)
        return
    method = build(name, {}, towers)
    _assert_gradients(method)
    with torch.no_grad():
        assert method.eval()(make_batch(towers)[0]).outputs.shape == (ROWS, CLASSES)


@pytest.mark.parametrize("name", METHODS)
def test_refuses_unknown_settings(name) -> None:
    with pytest.raises(UserError, match="nonsense"):
        build_method(name, {"nonsense": 1}, MethodContext(tiny_towers(), CLASSES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option"), [(n, f.name) for n in METHODS for f in dataclasses.fields(METHODS[n].config_class)]
)
def test_every_option_matters_and_is_checked(name, option) -> None:
    """Another value changes parameters, memory or the loss; one out of range is refused."""
    config = METHODS[name].config_class
    meta = next(f.metadata for f in dataclasses.fields(config) if f.name == option)
    seen = []
    for changes in ({}, {option: meta["other"]}):
        method = build(name, changes)
        report = measure_memory(method, *make_batch(), TrainingSetting(), classification(CLASSES))
        seen.append((report, train(method, steps=2)))
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
    assert spec.method.__doc__ or not spec.method.__module__.startswith("trainables")
    assert all(field.metadata["help"] for field in dataclasses.fields(spec.config_class))
    json.dumps(spec.config_class().to_dict())
