"""What every fusion method must satisfy, for every registered method and its options."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import SIZES, random_inputs, real_length, tiny_model
from trainables.errors import UserError
from trainables.memory import MemoryPredictor, measure_memory
from trainables.methods import METHODS, FusionMethod, MethodContext, build_method
from trainables.setting import TrainingSetting
from trainables.step import forward_loss, training_step
from trainables.tasks import get_task
from trainables.towers import FAMILIES, Tower, resolve_encoder

CLASSES = 5
ROWS = 6

#: Configurations to run beside each method's default and beside those with one option changed.
COMBINATIONS: dict[str, list[dict[str, Any]]] = {
    "pmf": [{"n_fusion_layers": 3, "n_fusion_context_prompts": 0, "n_query_prompts": 2}],
    "wander": [{"n_layers": 2, "target_length": 3, "cp": "product_of_sums", "residual": False}],
    "mope": [
        {"main": "text", "routing": "top1", "complementary_tuning": "finetune", "n_prompted_layers": 2},
        {"main": "text", "complementary_tuning": "frozen", "mapped": False},
    ],
    "adapter": [{"n_layers": 1, "train_norms": False}],
    "lora": [{"n_layers": 1, "targets": "attention"}],
}

MODALITIES = ("text", "image")

#: Encoders to run the defaults over: (text, image).
PAIRS = [
    ("bert", "vit"),
    ("distilbert", "dinov2"),
    ("roberta", "swin"),
    ("clip_text_model", "clip_vision_model"),
    ("gpt2", "deit"),
]

#: Pairs that a method refuses: encoders whose added tokens see nothing of theirs cannot be asked.
CAUSAL = [("clip_text_model", "clip_vision_model"), ("gpt2", "deit")]
REFUSED = {"pmf": CAUSAL, "mbt": CAUSAL}

#: Families of three and seven modalities, for methods that take any number.
MANY = {
    3: {"text": "bert", "image": "vit", "audio": "hubert"},
    7: {
        "text": "bert",
        "image": "vit",
        "audio": "whisper",
        "title": "distilbert",
        "face": "features",
        "scene": "features",
        "sketch": "dinov2",
    },
}


def _others(name: str) -> dict[str, Any]:
    """Return each option's other value."""
    return {f.name: f.metadata["other"] for f in dataclasses.fields(METHODS[name].config_class)}


DEFAULTS = [(name, config) for name in METHODS for config in ({}, *COMBINATIONS.get(name, []))]
CASES = DEFAULTS + [(name, {key: value}) for name in METHODS for key, value in _others(name).items()]

each_default = pytest.mark.parametrize(("name", "config"), DEFAULTS, ids=str)
each_case = pytest.mark.parametrize(("name", "config"), CASES, ids=str)


@functools.cache
def _tower(modality: str, family: str, attention: str = "eager") -> Tower:
    """A tower that tests share: methods do not change what they are given."""
    tower = FAMILIES[family].tower(modality, tiny_model(family))
    tower.model.config._attn_implementation = attention
    return tower


def _towers(pair: tuple[str, str] = PAIRS[0], attention: str = "eager") -> dict[str, Tower]:
    return {m: _tower(m, family, attention) for m, family in zip(MODALITIES, pair, strict=True)}


def _build(
    name: str,
    config: dict[str, Any],
    towers: dict[str, Tower] | None = None,
    *,
    dropout: bool = True,
    **context: Any,
) -> FusionMethod:
    torch.manual_seed(0)
    return build_method(name, config, MethodContext(towers or _towers(), CLASSES, SIZES, dropout, **context))


def _batch(towers: dict[str, Tower] | None = None) -> tuple[dict[str, dict[str, torch.Tensor]], torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = {m: random_inputs(tower, ROWS, generator) for m, tower in (towers or _towers()).items()}
    return inputs, torch.arange(ROWS) % CLASSES


def _step(method: FusionMethod, optimizer: torch.optim.Optimizer | None = None) -> float:
    """Forward and backward, and update where there is an optimiser."""
    inputs, labels = _batch(dict(method.context.towers))
    if optimizer is not None:
        task = get_task("classification")
        return training_step(method, inputs, labels, task, TrainingSetting(), optimizer).item()
    loss = forward_loss(method, inputs, labels, get_task("classification"), TrainingSetting())
    loss.backward()
    return loss.item()


def _train(method: FusionMethod, steps: int) -> list[float]:
    optimizer = TrainingSetting().make_optimizer(method.trainable_parameters(), 1e-2)
    method.train()
    return [_step(method, optimizer) for _ in range(steps)]


@each_case
def test_frozen_stays_frozen_and_the_rest_trains(name, config) -> None:
    towers = _towers()
    given = {m: {n: v.clone() for n, v in tower.state_dict().items()} for m, tower in towers.items()}
    method = _build(name, config, towers)
    trainable = {n for n, p in method.named_parameters() if p.requires_grad}
    before = {n: v.clone() for n, v in method.state_dict().items()}
    _train(method, steps=2)
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
    method = _build(name, config)
    _assert_gradients(method)
    assert not [n for n, p in method.named_parameters() if not p.requires_grad and p.grad is not None]


def _assert_gradients(method: FusionMethod) -> None:
    optimizer = TrainingSetting().make_optimizer(method.trainable_parameters(), 1e-2)
    silent = {n for n, p in method.named_parameters() if p.requires_grad}
    method.train()
    for _ in range(2):
        _step(method)
        silent -= {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    assert not {n for n in silent if not ("bias" in n and ("key" in n or "k_" in n))}


@each_default
def test_loss_falls(name, config) -> None:
    losses = _train(_build(name, config, dropout=False), steps=30)
    assert min(losses[-3:]) < 0.7 * losses[0]


@each_default
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_evaluation_does_not_depend_on_order_size_or_padding(name, config, pair) -> None:
    towers = _towers(pair)
    if pair in REFUSED.get(name, ()):
        with pytest.raises(UserError, match="encoder is causal"):
            _build(name, config, towers)
        return
    method = _build(name, config, towers).eval()
    inputs, _ = _batch(towers)
    with torch.no_grad():
        logits = method(inputs).logits
        assert logits.shape == (ROWS, CLASSES)
        assert torch.equal(method(inputs).logits, logits)
        flipped = {m: {k: v.flip(0) for k, v in tensors.items()} for m, tensors in inputs.items()}
        assert torch.allclose(method(flipped).logits.flip(0), logits, atol=1e-5)
        one = {m: {k: v[1:2] for k, v in tensors.items()} for m, tensors in inputs.items()}
        for tensors in one.values():
            if "attention_mask" in tensors:  # what is padded is cut off
                length = real_length(tensors["attention_mask"])
                tensors |= {k: v[:, :length] for k, v in tensors.items()}
        assert torch.allclose(method(one).logits, logits[1:2], atol=1e-5)


@each_default
def test_training_from_a_cached_prefix_is_the_same(name, config) -> None:
    method = _build(name, config).eval()
    inputs, _ = _batch()
    prefix = method.prefix(inputs)
    with torch.no_grad():
        cached = method({**inputs, **prefix}).logits
        assert torch.allclose(cached, method(inputs).logits, atol=1e-6)
    assert {m: s.layer for m, s in prefix.items()} == method.prefix_layers()


@each_default
def test_skipping_unused_outputs_changes_nothing(name, config) -> None:
    results = []
    for skip in (False, True):
        method = _build(name, config, dropout=False, skip_unused=skip)
        for module in method.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # a method's own: which numbers it draws depends on what is computed
        if not method.trained_encoders(method.context, method.config):
            _train(method, steps=1)
        with torch.no_grad():
            results.append(method.eval()(_batch()[0]).logits)
    assert torch.allclose(*results, atol=1e-4)


@each_case
def test_save_and_load(name, config, tmp_path) -> None:
    trained = _build(name, config)
    _train(trained, steps=2)
    path = tmp_path / "weights.safetensors"
    save_file({n: value.contiguous() for n, value in trained.trainable_state_dict().items()}, path)
    torch.manual_seed(7)
    fresh = build_method(name, config, MethodContext(_towers(), CLASSES, SIZES))
    fresh.load_trainable_state_dict(load_file(path))
    inputs, labels = _batch()
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs).logits, trained.eval()(inputs).logits)
    with pytest.raises(UserError, match="another configuration"):
        fresh.load_trainable_state_dict({"other": torch.zeros(1)})
    # The file is what was announced, behind a header whose length its first eight bytes say
    header = int.from_bytes(path.read_bytes()[:8], "little")
    announced = measure_memory(fresh, inputs, labels, TrainingSetting()).checkpoint
    assert path.stat().st_size == 8 + header + announced


#: Settings under which a step is predicted and tracked, for every option of every method.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"attention": "sdpa", "precision": "bf16", "optimizer": "sgd", "gradient_checkpointing": True},
]
#: More of them, for the defaults.
MORE_SETTINGS: list[dict[str, Any]] = [
    {"gradient_checkpointing": True},
    {"precision": "bf16"},
    {"precision": "bf16-frozen", "gradient_accumulation": 3},
    {"optimizer_kernel": "foreach", "prefix": "cached", "skip_unused": True},
    {"optimizer_kernel": "fused", "prefix": "offloaded", "encoder_dropout": False},
]


@each_case
@pytest.mark.parametrize("changes", SETTINGS, ids=str)
def test_predicted_memory_is_the_tracked_peak(tiny_encoders, name, config, changes) -> None:
    _assert_predicted(tiny_encoders, name, config, dict(zip(MODALITIES, PAIRS[0], strict=True)), changes)


@each_default
@pytest.mark.parametrize("changes", MORE_SETTINGS, ids=str)
def test_so_it_is_in_other_settings(tiny_encoders, name, config, changes) -> None:
    _assert_predicted(tiny_encoders, name, config, dict(zip(MODALITIES, PAIRS[0], strict=True)), changes)


@each_default
def test_gradient_checkpointing_changes_memory_only(name, config) -> None:
    gradients = []
    for checkpointing in (False, True):
        method = _build(name, config, gradient_checkpointing=checkpointing)
        method.train()
        torch.manual_seed(1)  # dropout draws the same numbers in the second run of a layer
        _step(method)
        gradients.append({n: p.grad for n, p in method.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][key], gradient, atol=1e-6), key


@functools.cache
def _predictor(folders: tuple[tuple[str, str], ...]) -> MemoryPredictor:
    return MemoryPredictor({m: resolve_encoder(m, folder) for m, folder in folders}, CLASSES, _setting())


def _setting(**changes: Any) -> TrainingSetting:
    return TrainingSetting(batch_size=ROWS, **dataclasses.asdict(SIZES), **changes)


def _assert_predicted(
    encoders: dict[str, Any], name: str, config: dict[str, Any], families: dict[str, str], changes: Any
) -> None:
    setting = _setting(**changes)
    folders = tuple((m, str(encoders[family])) for m, family in families.items())
    predicted = _predictor(folders).changed(**changes).predict(name, config)
    towers = {m: _tower(m, family, setting.attention) for m, family in families.items()}
    torch.manual_seed(0)
    method = build_method(name, config, setting.context(towers, CLASSES))
    inputs, labels = _batch({m: method.context.towers[m] for m in method.modalities})
    if setting.prefix != "computed":  # as a cache returns it
        for modality, sequence in method.eval().prefix(inputs).items():
            tokens = sequence.tokens.float().contiguous()
            inputs[modality] = dataclasses.replace(sequence, tokens=tokens)
    if setting.prefix == "offloaded":
        for module in method.prefix_modules():  # so that whatever a step needs of them is missing
            module.to("meta")
    real = measure_memory(method, inputs, labels, setting)
    assert predicted == real  # to the byte, in every part
    assert predicted.total == sum(v for k, v in predicted.to_dict().items() if k != "total")
    assert predicted.trainable_parameters == method.trainable_parameter_count()
    if setting.precision == "bf16-frozen":
        assert all(
            p.dtype == (torch.bfloat16 if p.ndim > 1 and not p.requires_grad else torch.float32)
            for p in method.parameters()
        )


@each_default
def test_works_in_bf16_autocast(name, config) -> None:
    method = _build(name, config)
    inputs, labels = _batch()
    loss = forward_loss(method, inputs, labels, get_task("classification"), TrainingSetting(precision="bf16"))
    loss.backward()
    assert torch.isfinite(loss)


@each_case
def test_gradient_graph_stops_at_the_prefix(name, config) -> None:
    method = _build(name, config)
    touched = []
    for modality, stop in method.prefix_layers().items():
        for layer in method.tower(modality).layers[:stop]:
            layer.register_forward_hook(
                lambda _m, _i, out: touched.append((out[0] if isinstance(out, tuple) else out).requires_grad)
            )
    method.train()
    method(_batch()[0])
    assert not any(touched)


@pytest.mark.parametrize("name", METHODS)
def test_every_modality_counts(name) -> None:
    method = _build(name, {})
    _train(method, steps=2)  # some start where the others' contribution is zero
    method.eval()
    inputs, _ = _batch()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        logits = method(inputs).logits
        for modality in inputs:
            other = {**inputs, modality: random_inputs(_towers()[modality], ROWS, generator)}
            assert torch.equal(method(other).logits, logits) is (modality not in method.modalities)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("count", MANY)
def test_takes_three_and_seven_modalities_or_says_why_not(tiny_encoders, name, count) -> None:
    towers = {m: _tower(m, family) for m, family in MANY[count].items()}
    most = METHODS[name].method.n_modalities[1]
    if most is not None and most < count:
        with pytest.raises(UserError, match=f"modalities, not {count}: text, image"):
            _build(name, {}, towers)
        return
    method = _build(name, {}, towers)
    _assert_gradients(method)
    with torch.no_grad():
        assert method.eval()(_batch(towers)[0]).logits.shape == (ROWS, CLASSES)
    _assert_predicted(tiny_encoders, name, {}, MANY[count], {})


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
        report = measure_memory(method, *_batch(), TrainingSetting())
        seen.append((report, _train(method, steps=2)))
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
