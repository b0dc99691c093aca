"""What the settings of a step do to the weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.tasks import classification
from trainables.step import TrainingSetting
from trainables.step.training import training_loss
from trainables.testing.cases import build, take_step


def _changes(name: str, setting: TrainingSetting, rate: float = 1.0) -> dict[str, torch.Tensor]:
    """How much the first step changes each trained weight."""
    method = build(name, {}, dropout=False)
    before = {key: weight.clone() for key, weight in method.trainable_state_dict().items()}
    torch.manual_seed(1)  # the same dropout in every call
    take_step(method, setting.make_optimizer(method, rate), setting)
    return {key: weight - before[key] for key, weight in method.trainable_state_dict().items()}


def _norm(changes: dict[str, torch.Tensor]) -> float:
    return torch.cat([change.flatten() for change in changes.values()]).norm().item()


@pytest.mark.parametrize("kernel", ["single", "foreach"])
def test_a_gradient_is_shortened_to_the_norm_and_keeps_its_direction(kernel) -> None:
    free = TrainingSetting(optimizer="sgd", weight_decay=0, optimizer_kernel=kernel)
    changes = _changes("pmf", free)
    norm = _norm(changes)
    for most in (norm / 4, norm * 4):
        limited = _changes("pmf", TrainingSetting(**{**free.to_dict(), "clip_norm": most}))
        assert _norm(limited) == pytest.approx(min(most, norm), rel=1e-4)
        for key, change in limited.items():
            assert torch.allclose(change, changes[key] * min(most / norm, 1), atol=1e-6), key


def test_only_matrices_decay() -> None:
    for name in ("pmf", "wander", "lora", "mope", "adapter"):
        method = build(name, {})
        before = {key: weight.clone() for key, weight in method.trainable_state_dict().items()}
        optimizer = TrainingSetting(weight_decay=0.5).make_optimizer(method, 0.1)
        for parameter in method.trainable_parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for key, weight in method.trainable_state_dict().items():
            matrix = key.endswith("weight") and weight.ndim > 1
            assert torch.equal(weight, before[key] * 0.95 if matrix else before[key]), key


@pytest.mark.parametrize(
    ("name", "part"), [("pmf", "query"), ("wander", "features"), ("adapter", "LayerNorm.weight")]
)
def test_prompts_factors_and_norms_do_not_decay(name, part) -> None:
    method = build(name, {})
    names = {id(parameter): path for path, parameter in method.named_parameters()}
    groups = [group for group in method.parameter_groups() if not group.decays]
    spared = [names[id(parameter)] for group in groups for parameter in group.parameters]
    assert any(part in path for path in spared)
    assert any(path.endswith("bias") for path in spared)


def test_labels_are_smoothed_in_training_only() -> None:
    task, outputs, labels = classification(3), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = training_loss(task, outputs, labels, TrainingSetting(label_smoothing=0.2))
    even = torch.full((4, 3), 0.2 / 3) + 0.8 * F.one_hot(labels, 3)
    assert loss.item() == pytest.approx(F.cross_entropy(outputs, even).item())
    assert task.score(outputs, labels)["loss"] == pytest.approx(F.cross_entropy(outputs, labels).item())


def test_settings_that_need_equal_memory_share_a_prediction() -> None:
    for name, values, none in (
        ("weight_decay", (0.01, 0.5), 0.0),
        ("clip_norm", (2.5, 0.5), None),
        ("label_smoothing", (0.1, 0.5), 0.0),
        ("modality_learning_rates", ("text=2", "text=.5"), None),
    ):
        several = [TrainingSetting(**{name: value}).same_memory() for value in values]
        assert several[0] == several[1]
        assert several[0] != TrainingSetting(**{name: none}).same_memory()


@pytest.mark.parametrize(("optimizer", "kept"), [("adamw", 0.95), ("adam", None), ("sgd", 0.95)])
def test_a_decay_is_decoupled_only_in_adamw(optimizer, kept) -> None:
    method = build("linear", {})
    before = method.head.weight.detach().clone()
    method.head.weight.grad = torch.zeros_like(before)
    TrainingSetting(weight_decay=0.5, optimizer=optimizer).make_optimizer(method, 0.1).step()
    # The first step of Adam has the size of the rate, whatever the gradient
    expected = before * kept if kept else before - 0.1 * before.sign()
    assert torch.allclose(method.head.weight, expected, atol=1e-4)
