"""Checks that every fusion method must pass beside a query."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch

from trainables.elastic import Supernet
from trainables.memory import MemoryPredictor, measure_memory
from trainables.memory.tracking import track_forward
from trainables.methods import METHODS, FusionMethod, Queried, build_method
from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss, training_step
from trainables.tasks.retrieval import Retrieval
from trainables.testing.cases import ROWS
from trainables.testing.checks import Check
from trainables.testing.elastic import largest, legal
from trainables.testing.memory import setting_of
from trainables.testing.tiny import random_inputs, saved_encoders, tiny_tower
from trainables.towers import Tower, resolve_encoders

#: The encoder family of each modality; the caption searches for text and image.
FAMILIES = {"text": "bert", "caption": "distilbert", "image": "vit"}
#: Tasks that are checked: with a learnt temperature, and without.
TASK, OTHER = Retrieval("caption", 4), Retrieval("caption", 4, "margin")


def retrieval_checks(name: str) -> Iterator[Check]:
    """Yield the checks of a method beside a query.

    Args:
        name: Name of a registered method.
    """
    yield Check(check_document_and_query_train, (name,))
    yield Check(check_a_prefix_may_be_cached, (name,))
    yield Check(check_a_checkpoint_restores_both, (name,))
    for task, changes in (TASK, {"precision": "bf16", "prefix": "offloaded"}), (OTHER, {}):
        yield Check(check_predicted_memory, (name, task, changes), slow=True)
    yield Check(check_predicted_inference, (name,), slow=True)
    if METHODS[name].method.elastic:
        yield Check(check_a_subnet_is_the_model_on_its_own, (name,))


def check_document_and_query_train(name: str) -> None:
    """Check that all trained weights get a gradient within two steps, and that the loss falls."""
    method = _build(name)
    assert isinstance(method, Queried)
    optimizer = TrainingSetting().make_optimizer(method, 1e-2)
    silent = {n for n, p in method.named_parameters() if p.requires_grad}
    assert {"projection.weight", "projection.bias", "log_scale"} <= silent
    losses: list[float] = []
    method.train()
    for _ in range(6):
        loss = forward_loss(method, *_batch(method), TASK, TrainingSetting())
        loss.backward()
        if len(losses) < 2:
            silent -= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert not {n for n in silent if not ("bias" in n and ("key" in n or "k_" in n))}
    assert losses[-1] < losses[0]
    outputs = method.eval()(_batch(method)[0]).outputs
    documents, queries = outputs.chunk(2, dim=1)
    assert outputs.shape == (ROWS, TASK.output_size)
    torch.testing.assert_close(queries.norm(dim=1), torch.ones(ROWS))
    assert method.log_scale is not None
    torch.testing.assert_close(documents.norm(dim=1), method.log_scale.exp().expand(ROWS))


def check_a_prefix_may_be_cached(name: str) -> None:
    """Check that the outputs are the same from the cached prefix, and in stages."""
    method = _build(name).eval()
    inputs, _ = _batch(method)
    with torch.no_grad():
        outputs = method(inputs).outputs
        sequences = method.prefix(inputs)
        torch.testing.assert_close(method({**inputs, **sequences}).outputs, outputs)
        if not method.stages():
            return
        for stage in method.stages():
            sequences = stage.run(sequences)
        torch.testing.assert_close(method.conclude(sequences).outputs, outputs)
    assert method.prefix_layers()["caption"] == method.tower("caption").depth


def check_a_checkpoint_restores_both(name: str) -> None:
    """Check that a new model with the trained weights of another one has its outputs."""
    trained = _build(name)
    setting = TrainingSetting()
    inputs, labels = _batch(trained)
    training_step(trained.train(), inputs, labels, TASK, setting, setting.make_optimizer(trained, 1e-2))
    fresh = _build(name, seed=7)
    fresh.load_trainable_state_dict(trained.trainable_state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs).outputs, trained.eval()(inputs).outputs)


def check_predicted_memory(name: str, task: Retrieval, changes: dict[str, Any]) -> None:
    """Check that predicted memory equals that of a real step, to the byte and in every part.

    Args:
        name: Name of a method.
        task: The task.
        changes: Fields of the training setting that differ from the default.
    """
    predictor, setting = _predictor(task).changed(**changes), setting_of(**changes)
    method = _build(name, task, setting)
    given, labels = _batch(method)
    inputs = dict(given)
    if setting.prefix != "computed":
        for modality, sequence in method.eval().prefix(inputs).items():
            inputs[modality] = dataclasses.replace(sequence, tokens=sequence.tokens.float().contiguous())
        for module in method.prefix_modules():  # a step that uses them fails
            module.to("meta")
    assert predictor.predict(name, {}) == measure_memory(method, inputs, labels, setting, task)


def check_predicted_inference(name: str) -> None:
    """Check that predicted inference memory equals that of a real forward pass, to the byte."""
    setting = setting_of().of_inference()
    method = _build(name, TASK, setting)
    real = track_forward(method, _batch(method)[0], setting)
    assert _predictor(TASK).predict_inference(name, {}) == sum(real.values())


def check_a_subnet_is_the_model_on_its_own(name: str) -> None:
    """Check that a subnet beside a query has the outputs of an ordinary model with its weights."""
    top = largest(name)
    context = setting_of().context(_towers(), TASK.output_size, TASK.query)
    torch.manual_seed(0)
    supernet = Supernet(context, name, top)
    for parameter in supernet.largest.trainable_parameters():  # zeros would hide errors
        torch.nn.init.normal_(parameter, std=0.1)
    inputs, _ = _batch(supernet.largest)
    supernet.eval()
    for config in top, {**top, **{option: legal(name, option)[-2] for option in top}}:
        with torch.no_grad():
            sliced = supernet(config, inputs).outputs
            alone = supernet.subnet(config).eval()(inputs).outputs
        torch.testing.assert_close(sliced, alone, atol=1e-4, rtol=1e-4)


def _towers(attention: str = "eager") -> dict[str, Tower]:
    return {modality: tiny_tower(modality, family, attention) for modality, family in FAMILIES.items()}


@functools.cache
def _predictor(task: Retrieval) -> MemoryPredictor:
    names = {modality: str(saved_encoders()[family]) for modality, family in FAMILIES.items()}
    return MemoryPredictor(resolve_encoders(names), task, setting_of())


def _build(
    name: str, task: Retrieval = TASK, setting: TrainingSetting | None = None, seed: int = 0
) -> FusionMethod:
    setting = setting or setting_of(encoder_dropout=False)
    torch.manual_seed(seed)
    return build_method(name, {}, setting.context(_towers(setting.attention), task.output_size, task.query))


def _batch(method: FusionMethod) -> tuple[dict[str, Any], torch.Tensor]:
    """Return inputs of the modalities that a method uses, and labels, of which two have equal queries."""
    generator = torch.Generator().manual_seed(2)
    inputs = {m: random_inputs(method.context.towers[m], ROWS, generator) for m in FAMILIES}
    labels = TASK.example_labels(ROWS)
    labels[1, 0] = 0
    return {**{m: inputs[m] for m in method.modalities}, **method.example_presence(ROWS)}, labels
