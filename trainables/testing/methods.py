"""Checks that every fusion method must pass."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file

from trainables.configuration import NO_OPTIONS
from trainables.memory import measure_memory
from trainables.memory.report import report_of
from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.methods.heads import head_features, head_inputs, set_head
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss
from trainables.testing.cases import (
    CLASSES,
    FUSED,
    PAIRS,
    REFUSED,
    ROWS,
    beside_random,
    build,
    default_cases,
    make_batch,
    option_cases,
    refusal_of,
    take_step,
    task,
    train,
    training_losses,
)
from trainables.testing.checks import Check, refused
from trainables.testing.tiny import (
    MODALITIES,
    RANDOM,
    SIZES,
    random_inputs,
    real_length,
    tiny_tower,
    tiny_towers,
)
from trainables.towers import Tower


def behavior_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a method's behaviour: all except those of memory and weight sharing.

    Args:
        name: Name of a registered method.
    """
    yield Check(check_every_modality_counts, (name,))
    for modality in MODALITIES:
        if beside_random(name, modality):
            yield Check(check_a_random_encoder_trains, (name, modality), slow=modality != "image")
            yield Check(check_missing_features_do_no_harm, (name, modality))
    yield Check(check_refuses_unknown_settings, (name,))
    yield Check(check_is_described, (name,))
    for modalities in FUSED:
        yield Check(check_takes_modalities_or_says_why_not, (name, modalities))
    yield Check(check_trains_in_another_pooling, (name, _POOLING))
    yield Check(check_a_pooling_changes_the_outputs_where_it_is_used, (name, _POOLING))
    for checked in _OF_POOLING:
        yield Check(checked, (name, {}, _POOLING))
    for field in dataclasses.fields(METHODS[name].config_class):
        yield Check(check_every_option_matters_and_is_checked, (name, field.name))
    for config in default_cases(name):
        for function in (*_OF_DEFAULTS, *_OF_OPTIONS):
            yield Check(function, (name, config))
        for pair in PAIRS:
            yield Check(check_evaluation_does_not_depend_on_order_size_or_padding, (name, config, pair))
    for config in option_cases(name):
        for function in _OF_OPTIONS:
            yield Check(function, (name, config), slow=True)


def _read_by(pooling: str | None) -> dict[str, Tower]:
    """Return tiny towers; the text's vector is read by a pooling, or None for the family's default."""
    return {**tiny_towers(), "text": tiny_tower("text", "bert", pooling=pooling)}


def check_trains_in_another_pooling(name: str, pooling: str) -> None:
    """Check that everything trains in another pooling of the text."""
    _assert_gradients(build(name, {}, _read_by(pooling)))


def check_a_pooling_changes_the_outputs_where_it_is_used(name: str, pooling: str) -> None:
    """Check that another pooling of the text changes the outputs of those methods that pool the text."""
    outputs, read = [], []
    for changed in (None, pooling):
        method = build(name, {}, _read_by(changed))
        torch.manual_seed(1)
        train(method, steps=2)  # in some methods, a modality contributes nothing before training
        towers: Mapping[str, Any] = {**method.context.towers, **dict(method.towers.items())}
        tower = towers["text"]
        with torch.no_grad(), mock.patch.object(tower, "pool", wraps=tower.pool) as pool:
            outputs.append(method.eval()(make_batch()[0]).outputs)
        read.append(pool.called)
    assert read[0] is read[1] is not torch.equal(*outputs)


def check_frozen_stays_frozen_and_the_rest_trains(name: str, config: dict[str, Any]) -> None:
    """Check that training changes trained weights only, and leaves the shared towers unchanged."""
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
    # The towers, which methods share, are unchanged
    for modality, tower in towers.items():
        assert not any(p.requires_grad for p in tower.parameters())
        assert not tower.training
        state = tower.state_dict()
        assert set(state) == set(given[modality])
        assert all(torch.equal(value, given[modality][n]) for n, value in state.items())


def check_every_trained_parameter_gets_a_gradient_within_two_steps(name: str, config: dict[str, Any]) -> None:
    """Check that every trained parameter gets a gradient, and no frozen one does."""
    method = build(name, config)
    _assert_gradients(method)
    assert not [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]


def _assert_gradients(method: FusionMethod) -> None:
    optimizer = TrainingSetting().make_optimizer(method, 1e-2)
    silent = {n for n, p in method.named_parameters() if p.requires_grad}
    method.train()
    for _ in range(2):
        take_step(method)
        silent -= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
    # The bias of attention keys adds the same number to all scores of a query, which softmax cancels.
    assert not {n for n in silent if not ("bias" in n and ("key" in n or "k_" in n))}


def check_loss_falls(name: str, config: dict[str, Any]) -> None:
    """Check that at most thirty steps on one batch lower the loss."""
    losses = training_losses(build(name, config, dropout=False), steps=30)
    first = next(losses)
    assert any(loss < 0.7 * first for loss in losses)


def check_trains_in_bfloat16(name: str, config: dict[str, Any]) -> None:
    """Check that at most twelve steps lower the loss in bfloat16, with frozen weights stored in it."""
    method = build(name, config, dropout=False, frozen_matrices=torch.bfloat16)
    losses = training_losses(method, steps=12, setting=TrainingSetting(precision="bf16-frozen"))
    first = next(losses)
    assert any(loss < 0.8 * first for loss in losses)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in method.trainable_parameters())


def check_evaluation_does_not_depend_on_order_size_or_padding(
    name: str, config: dict[str, Any], pair: tuple[str, str]
) -> None:
    """Check that a sample's outputs do not depend on the other samples of the batch or on padding."""
    towers = tiny_towers(pair)
    if pair in REFUSED.get(name, ()):
        with refused("encoder is causal"):
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
            if "attention_mask" in tensors:  # remove the padding
                length = real_length(tensors["attention_mask"])
                tensors |= {k: v[:, :length] for k, v in tensors.items()}
        assert torch.allclose(method(one).outputs, logits[1:2], atol=1e-5)


def check_padding_that_all_texts_have_changes_nothing(
    name: str, config: dict[str, Any], pooling: str | None = None
) -> None:
    """Check that a batch of short texts gives the same outputs with and without their common padding."""
    method = build(name, config, _read_by(pooling)).eval()
    given, _ = make_batch()
    inputs = {m: {k: v[1::2] for k, v in tensors.items()} for m, tensors in given.items()}
    length = real_length(inputs["text"]["attention_mask"])
    short = {**inputs, "text": {k: v[:, :length] for k, v in inputs["text"].items()}}
    with torch.no_grad():
        assert torch.allclose(method(short).outputs, method(inputs).outputs, atol=1e-5)
    method.train()
    method(short).outputs.sum().backward()


def check_training_from_a_cached_prefix_is_the_same(
    name: str, config: dict[str, Any], pooling: str | None = None
) -> None:
    """Check that a method gives the same outputs from the cached output of its frozen prefix."""
    method = build(name, config, _read_by(pooling)).eval()
    inputs, _ = make_batch()
    prefix = method.prefix(inputs)
    with torch.no_grad():
        cached = method({**inputs, **prefix}).outputs
        assert torch.allclose(cached, method(inputs).outputs, atol=1e-6)
    assert {m: s.layer for m, s in prefix.items()} == method.prefix_layers()


def check_skipping_unused_outputs_changes_nothing(
    name: str, config: dict[str, Any], pooling: str | None = None
) -> None:
    """Check that skipping unused parts of layers does not change the outputs and the gradients."""
    towers = _read_by(pooling)
    methods = [build(name, config, towers, dropout=False, skip_unused=skip) for skip in (False, True)]
    train(methods[0], steps=1)  # in some methods, parts contribute nothing before training
    methods[1].load_trainable_state_dict(methods[0].trainable_state_dict())
    outputs, gradients = [], []
    for method in methods:
        for module in method.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # the random numbers of a method's own dropout depend on what is skipped
        with torch.no_grad():
            outputs.append(method.eval()(make_batch()[0]).outputs)
        method.zero_grad()
        torch.manual_seed(1)  # the same noise, where a method has some
        take_step(method.train())
        gradients.append({n: p.grad for n, p in method.named_parameters() if p.grad is not None})
    assert torch.allclose(outputs[0], outputs[1], atol=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, rtol=1e-3, atol=1e-4), key


def check_save_and_load(name: str, config: dict[str, Any]) -> None:
    """Check that loading a checkpoint gives the same model, and that its size equals the reported one."""
    trained = build(name, config)
    train(trained, steps=2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({n: value.contiguous() for n, value in trained.trainable_state_dict().items()}, path)
        content, weights = path.read_bytes(), load_file(path)
    torch.manual_seed(7)
    fresh = build_method(name, config, MethodContext(tiny_towers(), CLASSES, SIZES))
    fresh.load_trainable_state_dict(weights)
    inputs, _ = make_batch()
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs).outputs, trained.eval()(inputs).outputs)
    with refused("another configuration"):
        fresh.load_trainable_state_dict({"other": torch.zeros(1)})
    # The file has a header, whose length is in the first eight bytes, then as many bytes as announced
    header = int.from_bytes(content[:8], "little")
    assert len(content) == 8 + header + report_of(fresh, {}).checkpoint


def check_gradient_checkpointing_changes_memory_only(name: str, config: dict[str, Any]) -> None:
    """Check that gradients are the same with and without gradient checkpointing."""
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


def check_gradient_graph_stops_at_the_prefix(name: str, config: dict[str, Any]) -> None:
    """Check that no layer of the frozen prefix is in the gradient graph."""
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


def check_the_head_is_linear_and_comes_last(name: str, config: dict[str, Any]) -> None:
    """Check that a method's outputs are those of any linear model that its head is given."""
    method = build(name, config).eval()
    inputs, _ = make_batch()
    with torch.no_grad(), head_inputs(method) as seen:
        method(inputs)
        weight, bias = torch.randn(CLASSES, head_features(method)), torch.randn(CLASSES)
        set_head(method, weight, bias)
        outputs = method(inputs).outputs
    assert torch.allclose(outputs, seen[0] @ weight.T + bias, atol=1e-4)
    assert all(parameter.requires_grad for parameter in method.head.parameters())


def check_every_trained_parameter_is_in_one_group(name: str, config: dict[str, Any]) -> None:
    """Check that an optimizer gets every trained parameter once, and that only matrices decay."""
    method = build(name, config)
    for apart in ((), method.modalities):
        groups = method.parameter_groups(apart)
        grouped = [id(parameter) for group in groups for parameter in group.parameters]
        assert sorted(grouped) == sorted(map(id, method.trainable_parameters()))
        assert all(parameter.ndim > 1 for group in groups if group.decays for parameter in group.parameters)
        assert any(group.head and group.decays for group in groups)
        assert {group.modality for group in groups} <= {None, *apart}


def check_every_modality_counts(name: str) -> None:
    """Check that outputs depend on exactly the modalities that the method declares."""
    method = build(name, {})
    train(method, steps=2)  # in some methods, a modality contributes nothing before training
    method.eval()
    inputs, _ = make_batch()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        logits = method(inputs).outputs
        for modality in inputs:
            other = {**inputs, modality: random_inputs(tiny_towers()[modality], ROWS, generator)}
            assert torch.equal(method(other).outputs, logits) is (modality not in method.modalities)


def check_takes_modalities_or_says_why_not(name: str, modalities: str) -> None:
    """Check that a method trains with some of ``FUSED``, or refuses them as it says before it is built."""
    towers = {m: tiny_tower(m, family) for m, family in FUSED[modalities].items()}
    method_class = METHODS[name].method
    refusal = refusal_of(name, FUSED[modalities])
    fewest, most = method_class.n_modalities
    if not fewest <= len(towers) <= (most or len(towers)):
        assert refusal is not None
    if refusal is not None:
        with refused(re.escape(refusal)):
            build(name, {}, towers)
        return
    method = build(name, {}, towers)
    _assert_gradients(method)
    with torch.no_grad():
        assert method.eval()(make_batch(towers)[0]).outputs.shape == (ROWS, CLASSES)


def check_a_random_encoder_trains(name: str, modality: str) -> None:
    """Check that an encoder with random weights trains with the method, and no other one because of it."""
    towers = {**tiny_towers(), modality: tiny_tower(modality, RANDOM)}
    method = build(name, {}, towers)
    usual = build(name, {})
    assert method.trained == usual.trained | ({modality} & {*method.modalities})
    assert modality not in method.prefix_layers()
    assert {m for m in usual.prefix_layers() if m != modality} == set(method.prefix_layers())
    for other in {*method.modalities} - {modality}:
        assert _trained(method.tower(other)) == _trained(usual.tower(other))
    _assert_gradients(method)
    assert not [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]
    if modality in method.modalities:
        assert _trained(method.tower(modality)) == {n for n, _ in method.tower(modality).named_parameters()}
    assert not _trained(towers[modality])


def check_missing_features_do_no_harm(name: str, modality: str) -> None:
    """Check that rows whose features are all masked give finite outputs, and finite gradients of the loss."""
    towers = {**tiny_towers(), modality: tiny_tower(modality, RANDOM)}
    method = build(name, {}, towers).train()
    inputs, labels = make_batch(towers)
    inputs[modality]["features"][::2] = 0
    inputs[modality]["attention_mask"][::2] = False
    forward_loss(method, inputs, labels, task(), TrainingSetting()).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    with torch.no_grad():
        assert method.eval()(inputs).outputs.isfinite().all()


def _trained(tower: Tower) -> set[str]:
    """Return the names of the parameters that train."""
    return {n for n, p in tower.named_parameters() if p.requires_grad}


def check_refuses_unknown_settings(name: str) -> None:
    """Check that an unknown option is refused with its name."""
    with refused("nonsense"):
        build_method(name, {"nonsense": 1}, MethodContext(tiny_towers(), CLASSES))


def check_every_option_matters_and_is_checked(name: str, option: str) -> None:
    """Check that another value changes memory or the loss, and that invalid values are refused."""
    config = METHODS[name].config_class
    meta = next(f.metadata for f in dataclasses.fields(config) if f.name == option)
    cases: tuple[dict[str, Any], ...] = ({}, {option: meta["other"]})
    plain, changed = (
        measure_memory(build(name, case), *make_batch(), TrainingSetting(), task()) for case in cases
    )
    if plain == changed:
        losses, others = (train(build(name, case), steps=2) for case in cases)
        assert losses != others
    bad = []
    if meta["low"] is not None:
        bad.append(meta["low"] - 1)
    if meta["high"] is not None:
        bad.append(meta["high"] + 1)
    if meta["choices"] is not None:
        bad.append("nonsense")
    for value in bad:
        with refused(f"{option}=.*must be"):
            config(**{option: value})


def check_is_described(name: str) -> None:
    """Check that a method and its options have descriptions, and that its configuration is JSON."""
    spec = METHODS[name]
    assert spec.description
    assert spec.source
    assert spec.method.__doc__ or not spec.method.__module__.startswith("trainables")
    assert all(field.metadata["help"] for field in dataclasses.fields(spec.config_class))
    names = {field.name for field in dataclasses.fields(spec.config_class)}
    assert not names & NO_OPTIONS, "a configuration states these beside a method's options"
    json.dumps(spec.config_class().to_dict())


#: Checks of the default configuration and of ``COMBINATIONS``.
_OF_DEFAULTS = (
    check_loss_falls,
    check_trains_in_bfloat16,
    check_training_from_a_cached_prefix_is_the_same,
    check_skipping_unused_outputs_changes_nothing,
    check_gradient_checkpointing_changes_memory_only,
    check_the_head_is_linear_and_comes_last,
    check_every_trained_parameter_is_in_one_group,
)
#: Checks of these configurations and of those with one changed option.
_OF_OPTIONS = (
    check_frozen_stays_frozen_and_the_rest_trains,
    check_every_trained_parameter_gets_a_gradient_within_two_steps,
    check_save_and_load,
    check_gradient_graph_stops_at_the_prefix,
    check_padding_that_all_texts_have_changes_nothing,
)
#: The pooling of the text in which the default configuration is checked, in addition to the encoder's own. It
#: reads all tokens.
_POOLING = "mean"
#: Checks of the default configuration in this pooling.
_OF_POOLING = (
    check_training_from_a_cached_prefix_is_the_same,
    check_skipping_unused_outputs_changes_nothing,
    check_padding_that_all_texts_have_changes_nothing,
)
