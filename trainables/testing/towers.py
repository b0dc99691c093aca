"""Checks that every tower must pass."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from trainables.memory import MemoryPredictor, measure_memory
from trainables.methods import MethodContext, build_method
from trainables.step.setting import TrainingSetting
from trainables.tasks import get_task
from trainables.testing.checks import Check, refused
from trainables.testing.tiny import (
    IMAGE_FAMILIES,
    SIZES,
    encoder_name,
    random_inputs,
    real_length,
    saved_encoders,
)
from trainables.towers import (
    FAMILIES,
    NONE,
    POOLINGS,
    EncoderSource,
    Sequence,
    Tower,
    load_tower,
    resolve_encoder,
    resolve_encoders,
    save_encoder,
)

#: Outputs that callers may request from a layer.
WANTED: list[dict[str, Any]] = [
    {"tokens": slice(0, 1), "prompts": NONE},
    {"tokens": slice(0, 4), "prompts": NONE},
    {"tokens": NONE, "prompts": slice(-1, None)},
    {"tokens": slice(0, 1)},
]


#: Families without layers.
_FLAT = ("bag_of_words",)
#: Families whose outputs depend on padding, as in the library, because a group norm covers all frames.
_PADDING_COUNTS = ("wav2vec2",)
#: Families whose library model does not mask padding.
_PADDING_UNMASKED = ("whisper",)
_ATTENTION = ("eager", "sdpa")


def tower_checks(family: str) -> Iterator[Check]:
    """Yield the checks of a tower.

    Args:
        family: Name of a registered family of encoders that ``tiny_model`` supports.
    """
    for attention, padded in product(_ATTENTION, (False, True)):
        if not (padded and family in _PADDING_UNMASKED):
            yield Check(check_steps_equal_the_library_forward, (family, attention, padded))
    for function in _OF_ALL:
        yield Check(function, (family,))
    if family not in _FLAT:
        for function in _OF_LAYERED:
            yield Check(function, (family,))
        for attention in _ATTENTION:
            yield Check(check_a_prefix_of_keys_and_values_is_seen, (family, attention))
            for wanted in WANTED:
                yield Check(check_skipping_unused_outputs_changes_nothing, (family, attention, wanted))
    if family not in (*IMAGE_FAMILIES, *_PADDING_COUNTS):
        yield Check(check_padding_does_not_change_real_tokens, (family,))
    if family in IMAGE_FAMILIES:
        yield Check(check_takes_other_image_sizes, (family,))
    for pooling in POOLINGS:
        if pooling not in FAMILIES[family].tower.POOLINGS:
            yield Check(check_refuses_poolings_without_a_sense, (family, pooling))
            continue
        for checked in _OF_POOLINGS:
            slow = checked is check_its_training_memory_is_predicted
            yield Check(checked, (family, pooling), slow)
        if family not in _FLAT:
            yield Check(check_pooling_reads_no_prompts, (family, pooling))
        if family not in (*IMAGE_FAMILIES, *_PADDING_COUNTS):
            yield Check(check_pooling_reads_no_padding, (family, pooling))


def _source(family: str, pooling: str | None = None) -> EncoderSource:
    modality = FAMILIES[family].kind
    return resolve_encoder(modality, encoder_name(saved_encoders(), family), pooling)


def _tower(family: str, attention: str = "eager", pooling: str | None = None) -> Tower:
    return load_tower(_source(family, pooling), attention=attention)


def _inputs(tower: Tower, *, padded: bool = True) -> dict[str, torch.Tensor]:
    return random_inputs(tower, 3, torch.Generator().manual_seed(1), padded)


def _run(tower: Tower, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return tower.finish(tower.encode(inputs, tower.depth)).tokens


def _prompts(sequence: Sequence) -> torch.Tensor:
    assert sequence.prompts is not None
    return sequence.prompts


def _assert_same_mask(one: Sequence, other: Sequence) -> None:
    if one.mask is not None:
        assert other.mask is not None
        assert torch.equal(one.mask, other.mask)


def check_steps_equal_the_library_forward(family: str, attention: str, padded: bool) -> None:
    """Check that running all steps gives the output of the library's model."""
    tower = _tower(family, attention)
    inputs = _inputs(tower, padded=padded)
    with torch.no_grad():
        ours = tower.finish(tower.encode(inputs, tower.depth))
        theirs = tower.model(**inputs).last_hidden_state
    assert ours.tokens.shape == theirs.shape
    real = torch.ones(theirs.shape[:2], dtype=torch.bool) if ours.mask is None else ours.mask
    assert (ours.tokens - theirs)[real].abs().max() < 1e-5


def check_steps_are_a_chain(family: str) -> None:
    """Check that layers can be run in several calls, and that going back is refused."""
    tower = _tower(family)
    inputs = _inputs(tower)
    with torch.no_grad():
        half = tower.encode(inputs, 2)
        assert half.layer == 2
        assert torch.equal(tower.encode(half, tower.depth).tokens, tower.encode(inputs, tower.depth).tokens)
    assert half.tokens.shape == (3, half.tokens.shape[1], tower.layer_width(1))
    with refused("past layer", ValueError):
        tower.encode(half, 1)


def check_prompts_are_seen_and_can_be_dropped(family: str) -> None:
    """Check that tokens attend to prompts, and that dropping the prompts' outputs changes no other output."""
    tower = _tower(family)
    with torch.no_grad():
        before = tower.embed(_inputs(tower))
        prompts = torch.ones(3, 2, tower.layer_width(0))
        after = tower.layer(0, before.prompted(prompts))
        plain = tower.layer(0, before)
        dropped = tower.layer(0, before.prompted(prompts), prompts=NONE)
    assert after.tokens.shape == plain.tokens.shape
    assert after.prompts is not None
    assert after.prompts.shape == prompts.shape
    assert plain.prompts is None
    assert dropped.prompts is None
    assert torch.equal(after.tokens, dropped.tokens)
    _assert_same_mask(after, plain)
    assert not torch.allclose(after.tokens, plain.tokens)


def check_blind_prompts_do_not_see_tokens(family: str) -> None:
    """Check that blind prompts attend to each other only."""
    tower = _tower(family)
    prompts = torch.randn(3, 2, tower.layer_width(0), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one = tower.embed(_inputs(tower))
        other = replace(one, tokens=one.tokens.roll(1, dims=2))
        blind = [_prompts(tower.layer(0, s.prompted(prompts), blind=True)) for s in (one, other)]
        seeing = [_prompts(tower.layer(0, s.prompted(prompts))) for s in (one, other)]
    assert torch.allclose(blind[0], blind[1], atol=1e-6)
    if not tower.PROMPTS_FIRST:
        assert not torch.allclose(seeing[0], seeing[1], atol=1e-4)


def check_a_prefix_of_keys_and_values_is_seen(family: str, attention: str) -> None:
    """Check that tokens attend to prefix tokens, and that prefix tokens of length 0 have no effect."""
    tower = _tower(family, attention)
    generator = torch.Generator().manual_seed(3)
    keys, values = (torch.randn(3, 2, tower.layer_width(0), generator=generator) for _ in range(2))
    with torch.no_grad():
        before = tower.embed(_inputs(tower))
        plain = tower.layer(0, before)
        far = tower.layer(0, before, prefix_tokens=(keys, values))
        assert far.tokens.shape == plain.tokens.shape
        assert not torch.allclose(far.tokens, plain.tokens, atol=1e-3)
        # Prefix tokens of length 0 are the same as none
        nothing = tower.layer(0, before, prefix_tokens=(keys[:, :0], values[:, :0]))
    assert torch.allclose(nothing.tokens, plain.tokens, atol=1e-5)


def check_skipping_unused_outputs_changes_nothing(
    family: str, attention: str, wanted: dict[str, Any]
) -> None:
    """Check that skipping unused outputs changes neither the other outputs nor gradients."""
    tower = _tower(family, attention)
    results = []
    for skip in (False, True):
        tower.skip_unused = skip
        start = tower.embed(_inputs(tower))
        prompt = torch.randn(3, 2, tower.layer_width(1), generator=torch.Generator().manual_seed(3))
        prompt.requires_grad_()
        out = tower.layer(1, start.prompted(prompt), **wanted)
        kept = torch.cat([t for t in (out.tokens, out.prompts) if t is not None], dim=1)
        (kept**2).sum().backward()
        assert prompt.grad is not None
        results.append((out, kept, prompt.grad))
    (plain, kept, gradient), (skipped, skipped_kept, skipped_gradient) = results
    assert torch.allclose(kept, skipped_kept, atol=1e-5)
    assert torch.allclose(gradient, skipped_gradient, rtol=1e-3, atol=1e-4)
    _assert_same_mask(plain, skipped)
    assert plain.layer == skipped.layer == 2


def check_a_fork_shares_weights_and_nothing_else(family: str) -> None:
    """Check that a fork has its own training mode, and a trained fork its own weights.

    Forks share frozen weights in another type as well.
    """
    tower = _tower(family)
    fork, trained = tower.fork(), tower.fork(trained=True)
    own = dict(tower.named_parameters())
    assert all(p is own[n] and not p.requires_grad for n, p in fork.named_parameters())
    assert all(p is not own[n] and p.requires_grad for n, p in trained.named_parameters())
    halves = [dict(tower.fork(matrices=torch.bfloat16).named_parameters()) for _ in range(2)]
    for name, parameter in halves[0].items():
        assert parameter is halves[1][name]
        assert torch.equal(parameter, own[name].to(torch.bfloat16 if own[name].ndim > 1 else torch.float32))
    fork.layers.train()
    assert not any(layer.training for layer in tower.layers)
    inputs = _inputs(tower)
    with torch.no_grad():
        assert torch.equal(_run(tower, inputs), _run(trained.eval(), inputs))


def check_names_its_matrices_and_sublayers(family: str) -> None:
    """Check that ``MATRICES`` and ``SUBLAYERS`` name existing modules."""
    tower = _tower(family)
    for layer in tower.layers:
        for path in tower.MATRICES.values():
            assert layer.get_parameter(f"{path}.weight").dim() == 2
        for path in tower.SUBLAYERS.values():
            assert layer.get_submodule(path) is not None
    assert set(tower.SUBLAYERS) == {"attention", "feed_forward"}
    attention = {"query", "key", "value"} if "query" in tower.MATRICES else {"query_key_value"}
    assert set(tower.MATRICES) == attention | {"output", "up", "down"}


def check_says_where_layers_normalise(family: str) -> None:
    """Check that ``FEED_FORWARD_NORM`` names a LayerNorm, which runs before the network or after it."""
    tower = _tower(family)
    norm = tower.layers[0].get_submodule(tower.FEED_FORWARD_NORM)
    assert isinstance(norm, torch.nn.LayerNorm)
    ran: list[torch.nn.Module] = []
    for module in (norm, tower.layers[0].get_submodule(tower.MATRICES["up"])):
        module.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.no_grad():
        tower.layer(0, tower.embed(_inputs(tower)))
    assert (ran[0] is norm) is tower.norms_first


def check_counts_its_tokens(family: str) -> None:
    """Check that ``token_count`` equals the number of tokens that running the tower gives."""
    tower = _tower(family)
    for layer in (0, tower.depth):
        with torch.no_grad():
            tokens = tower.encode(tower.example_inputs(2, SIZES), layer).tokens
        assert tokens.shape[1] == tower.token_count(layer, SIZES)


def check_is_frozen_and_deterministic(family: str) -> None:
    """Check that all parameters are frozen, and that two runs give the same output."""
    tower = _tower(family)
    assert not any(p.requires_grad for p in tower.parameters())
    inputs = _inputs(tower)
    assert torch.equal(_run(tower, inputs), _run(tower, inputs))


def _padded_and_short(tower: Tower) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return three samples, of which the second one is padded, and the second one without padding."""
    inputs = _inputs(tower)
    length = real_length(inputs["attention_mask"])
    short = {
        name: value[1:2, :, :length] if name == "input_features" else value[1:2, :length]
        for name, value in inputs.items()
    }
    return inputs, short


def check_padding_does_not_change_real_tokens(family: str) -> None:
    """Check that the tokens of an input are the same with and without padding."""
    tower = _tower(family)
    inputs, short = _padded_and_short(tower)
    with torch.no_grad():
        cut = _run(tower, short)
        assert torch.allclose(_run(tower, inputs)[1:2, : cut.shape[1]], cut, atol=1e-5)


def check_pooling_reads_no_padding(family: str, pooling: str) -> None:
    """Check that the vector of an input is the same with and without padding."""
    tower = _tower(family, pooling=pooling)
    inputs, short = _padded_and_short(tower)
    with torch.no_grad():
        assert torch.allclose(tower.pooled(inputs)[1:2], tower.pooled(short), atol=1e-5)


def check_pooling_reads_no_prompts(family: str, pooling: str) -> None:
    """Check that the outputs of prompts are not read, but that the tokens' outputs depend on the prompts."""
    tower = _tower(family, pooling=pooling)
    top = tower.depth - 1
    with torch.no_grad():
        before = tower.encode(_inputs(tower), top)
        prompts = torch.ones(3, 2, tower.layer_width(top))
        after = tower.finish(tower.layer(top, before.prompted(prompts)))
        other = replace(after, prompts=100 * _prompts(after))
        assert torch.equal(tower.pool(after), tower.pool(other))
        assert torch.equal(tower.pool(after), tower.pool(replace(after, prompts=None)))
        plain = tower.pool(tower.finish(tower.layer(top, before)))
        # A first token that sees nothing before it but prompts depends on them, too
        assert not torch.allclose(tower.pool(after), plain, atol=1e-4)


def check_pooling_reads_what_its_name_says(family: str, pooling: str) -> None:
    """Check the pooled vector against its definition, sample by sample, and that it needs no other outputs.

    Tokens before those of the sample, such as an image encoder's [CLS], are not part of mean and maximum.
    """
    tower = _tower(family, pooling=pooling)
    assert tower.pooling == pooling
    assert tower.fork().pooling == pooling
    with torch.no_grad():
        whole = tower.encode(_inputs(tower), tower.depth)
        vectors = tower.pooled(_inputs(tower))
        ends = tower.finish(whole)
        assert torch.allclose(tower.pool(ends), vectors, atol=1e-6)
        for row in range(3):
            real = ends.tokens[row] if ends.mask is None else ends.tokens[row, ends.mask[row]]
            read = {
                "cls": lambda real: real[:1],
                "last": lambda real: real[-1:],
                "mean": lambda real: real[tower.leading :].mean(dim=0, keepdim=True),
                "max": lambda real: real[tower.leading :].amax(dim=0, keepdim=True),
            }[pooling](real)
            # Some families normalise the vector in the end; so is a sequence of it alone
            alone = replace(ends, tokens=read[None].expand(1, tower.leading + 1, -1), mask=None)
            assert torch.allclose(tower.pool(alone)[0], vectors[row], atol=1e-6)
    assert vectors.shape == (3, tower.width)


def check_refuses_poolings_without_a_sense(family: str, pooling: str) -> None:
    """Check that a pooling which the family does not take is refused, with those that it takes."""
    tower = FAMILIES[family].tower
    with refused(f"--pooling .*={pooling}: encoder .* takes {', '.join(tower.POOLINGS)}"):
        _source(family, pooling)


def check_its_default_pooling_is_its_first(family: str) -> None:
    """Check that an encoder whose files state no pooling has the family's first one."""
    assert _tower(family).pooling == _source(family).pooling == FAMILIES[family].tower.POOLINGS[0]


def check_every_parameter_trains_with_the_encoder(family: str, pooling: str) -> None:
    """Check that every parameter of a trained fork gets a gradient."""
    tower = _tower(family, pooling=pooling).fork(trained=True)
    (tower.pooled(_inputs(tower)) ** 3).sum().backward()
    # The bias of attention keys adds the same number to all scores of a query, which softmax cancels.
    silent = [
        name
        for name, p in tower.named_parameters()
        if (p.grad is None or not p.grad.any()) and "key" not in name and "k_" not in name
    ]
    assert not silent


def check_its_training_memory_is_predicted(family: str, pooling: str) -> None:
    """Check that the predicted memory of training the whole encoder equals the measured one."""
    setting = TrainingSetting(batch_size=2, target="cpu", **dataclasses.asdict(SIZES))
    modality = FAMILIES[family].kind
    other = "image" if modality == "text" else "text"
    names = {
        modality: encoder_name(saved_encoders(), family),
        other: str(saved_encoders()["vit" if other == "image" else "bert"]),
    }
    sources = resolve_encoders(names, {modality: pooling})
    towers = {m: load_tower(source) for m, source in sources.items()}
    method = build_method("late_concat", {}, MethodContext(towers, 3, SIZES))
    inputs = {m: random_inputs(tower, 2, torch.Generator()) for m, tower in towers.items()}
    task = get_task("classification").of_size(3)
    real = measure_memory(method, inputs, torch.zeros(2, dtype=torch.long), setting, task)
    assert MemoryPredictor(sources, task, setting).predict("late_concat", {}) == real


def check_it_is_saved_with_trained_weights_and_named(family: str, pooling: str) -> None:
    """Check that a folder with trained weights is an encoder that computes what the trained one does."""
    source, tower = _source(family, pooling), _tower(family, pooling=pooling)
    if family in _FLAT:
        with refused("is a part of an encoder"):
            save_encoder(source, {}, Path("nowhere"))
        return
    trained = {name: weight + 0.1 * torch.randn_like(weight) for name, weight in tower.named_parameters()}
    tower.load_state_dict(trained, strict=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "encoder"
        save_encoder(source, trained, folder)
        saved = resolve_encoder(source.modality, str(folder))
        assert (saved.pooling, saved.width, saved.depth) == (pooling, source.width, source.depth)
        assert saved.fingerprint() != source.fingerprint()
        with torch.no_grad():
            again = load_tower(saved).pooled(_inputs(tower))
            assert torch.allclose(again, tower.pooled(_inputs(tower)), atol=1e-6)


def check_takes_other_image_sizes(family: str) -> None:
    """Check that smaller images give fewer tokens."""
    tower = _tower(family)
    with torch.no_grad():
        small = tower.embed({"pixel_values": torch.zeros(1, 3, 16, 16)})
    assert small.tokens.shape[1] < tower.embed({"pixel_values": torch.zeros(1, 3, 32, 32)}).tokens.shape[1]


#: Checks of every family.
_OF_ALL = (
    check_a_fork_shares_weights_and_nothing_else,
    check_counts_its_tokens,
    check_is_frozen_and_deterministic,
    check_its_default_pooling_is_its_first,
)
#: Checks of every pooling that a family takes.
_OF_POOLINGS = (
    check_pooling_reads_what_its_name_says,
    check_every_parameter_trains_with_the_encoder,
    check_its_training_memory_is_predicted,
    check_it_is_saved_with_trained_weights_and_named,
)
#: Checks of families that have layers.
_OF_LAYERED = (
    check_steps_are_a_chain,
    check_prompts_are_seen_and_can_be_dropped,
    check_blind_prompts_do_not_see_tokens,
    check_names_its_matrices_and_sublayers,
    check_says_where_layers_normalise,
)
