"""Checks that the supernet of a method with elastic options must pass."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trainables.elastic import Supernet
from trainables.memory import measure_memory
from trainables.methods import METHODS, MethodContext
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss
from trainables.testing.cases import CLASSES, PAIRS, beside_random, build, make_batch, task
from trainables.testing.checks import Check, refused
from trainables.testing.tiny import RANDOM, SIZES, tiny_towers


def elastic_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a method's supernet; none if the method has no elastic options.

    Args:
        name: Name of a registered method.
    """
    if METHODS[name].method.elastic:
        yield Check(check_a_slice_equals_the_model_on_its_own, (name,), slow=True)
        yield Check(check_a_slice_does_so_where_layers_differ_in_width, (name,))
        if beside_random(name, "image"):
            yield Check(check_a_slice_shares_a_random_encoder, (name,))
        yield Check(check_a_slice_gets_the_gradients_of_the_model_on_its_own, (name,))
        yield Check(check_training_changes_trained_weights_only, (name,))
        yield Check(check_refuses_what_is_no_subnet, (name,))


def legal(name: str, option: str) -> range:
    """Return some values of an option, from its lowest one to a small upper limit."""
    meta = next(f.metadata for f in dataclasses.fields(METHODS[name].config_class) if f.name == option)
    return range(meta["low"], (3 if "layers" in option else 4) + 1)


def largest(name: str) -> dict[str, Any]:
    """Return the elastic options of the largest subnet."""
    options = METHODS[name].method.elastic
    return {option: legal(name, option)[-1] for option in options}


def smaller(name: str) -> list[dict[str, Any]]:
    """Return subnets that differ from the largest in one option, then some that differ in all options."""
    options, top = METHODS[name].method.elastic, largest(name)
    singles = [{**top, option: value} for option in options for value in legal(name, option)]
    rng = random.Random(0)
    mixed = [{**top, **{o: rng.choice(legal(name, o)) for o in options}} for _ in range(4)]
    return [*singles, *mixed]


def supernet_of(name: str, pair: tuple[str, str] = PAIRS[0], **context: Any) -> Supernet:
    """Return a supernet over tiny towers, with random trained weights."""
    torch.manual_seed(0)
    supernet = Supernet(MethodContext(tiny_towers(pair), CLASSES, SIZES, **context), name, largest(name))
    for parameter in supernet.largest.trainable_parameters():  # zeros would hide errors
        torch.nn.init.normal_(parameter, std=0.1)
    return supernet


def check_a_slice_equals_the_model_on_its_own(name: str) -> None:
    """Check that a subnet equals an ordinary model with its weights, in outputs, size and memory."""
    supernet = supernet_of(name).eval()
    inputs, labels = make_batch()
    for config in smaller(name):
        with torch.no_grad():
            sliced = supernet(config, inputs).outputs
        ordinary = build(name, config)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file(supernet.subnet_state_dict(config), path)
            ordinary.load_trainable_state_dict(load_file(path))
        with torch.no_grad():
            assert torch.allclose(ordinary.eval()(inputs).outputs, sliced, atol=1e-6), config
        alone = supernet.subnet(config)
        assert alone.trainable_parameter_count() == ordinary.trainable_parameter_count()
        assert supernet.shell(config).prefix_layers() == ordinary.prefix_layers()
        if config not in smaller(name)[-2:]:
            continue
        setting = TrainingSetting()
        assert measure_memory(alone, inputs, labels, setting, task()) == measure_memory(
            ordinary, inputs, labels, setting, task()
        )


def check_a_slice_does_so_where_layers_differ_in_width(name: str) -> None:
    """Check that a subnet equals an ordinary model with its weights if encoder layers differ in width."""
    pair = ("roberta", "swin")
    supernet = supernet_of(name, pair).eval()
    inputs, _ = make_batch(tiny_towers(pair))
    for config in smaller(name)[-4:]:
        with torch.no_grad():
            alone = supernet.subnet(config).eval()(inputs).outputs
            assert torch.allclose(alone, supernet(config, inputs).outputs, atol=1e-6), config


def check_a_slice_shares_a_random_encoder(name: str) -> None:
    """Check that a subnet over an encoder that trains equals an ordinary model with its weights."""
    pair = (PAIRS[0][0], RANDOM)
    supernet = supernet_of(name, pair).eval()
    inputs, _ = make_batch(tiny_towers(pair))
    for config in smaller(name)[-2:]:
        with torch.no_grad():
            alone = supernet.subnet(config).eval()(inputs).outputs
            assert torch.allclose(alone, supernet(config, inputs).outputs, atol=1e-5), config


def check_a_slice_gets_the_gradients_of_the_model_on_its_own(name: str) -> None:
    """Check that a subnet's gradients equal those of an ordinary model with its weights.

    The check uses gradient checkpointing, so layers are run again in the backward pass, on the same slices.
    """
    supernet = supernet_of(name, encoder_dropout=False, gradient_checkpointing=True)
    weights = supernet.largest.trainable_state_dict()
    inputs, labels = make_batch()
    for config in smaller(name)[-2:]:
        alone = supernet.subnet(config)
        for model in (alone, supernet.train().bound(config)):
            model.train()
            torch.manual_seed(5)
            forward_loss(model, inputs, labels, task(), TrainingSetting()).backward()
        expected = {n: p.grad for n, p in alone.named_parameters() if p.grad is not None}
        gradients = {n: p.grad for n, p in supernet.largest.named_parameters() if p.grad is not None}
        ours, theirs = (
            sum(float(gradient.abs().sum()) for gradient in some.values()) for some in (gradients, expected)
        )
        assert math.isclose(ours, theirs, rel_tol=1e-3)
        got = Supernet(supernet.context, name, supernet.largest.config)
        filled = {n: gradients.get(n, torch.zeros_like(w)) for n, w in weights.items()}
        got.largest.load_trainable_state_dict(filled)
        for n, part in got.subnet_state_dict(config).items():
            assert torch.allclose(part, expected.get(n, torch.zeros_like(part)), atol=1e-5), n
        supernet.zero_grad(set_to_none=True)


def check_training_changes_trained_weights_only(name: str) -> None:
    """Check that training subnets changes all trained weights and no other weights."""
    supernet = supernet_of(name).train()
    before = {n: v.clone() for n, v in supernet.largest.state_dict().items()}
    trained = set(supernet.largest.trainable_state_dict())
    optimizer = TrainingSetting().make_optimizer(supernet.largest, 1e-2)
    inputs, labels = make_batch()
    configs = [largest(name), *smaller(name)[-1:], largest(name)]
    for config in configs:
        forward_loss(supernet.bound(config), inputs, labels, task(), TrainingSetting()).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {n for n, v in supernet.largest.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == trained


def check_refuses_what_is_no_subnet(name: str) -> None:
    """Check that a larger configuration, or one that differs in an option that is not elastic, is refused."""
    supernet = supernet_of(name)
    option = supernet.largest.elastic[-1]
    with refused(r"larger than the supernet|must be"):
        supernet.shell({**largest(name), option: largest(name)[option] + 1})
    others = [
        f for f in dataclasses.fields(METHODS[name].config_class) if f.name not in supernet.largest.elastic
    ]
    for field in others:
        value = field.metadata["other"]
        if value != getattr(supernet.largest.config, field.name):
            with refused("may differ"):
                supernet.shell({**largest(name), field.name: value})
