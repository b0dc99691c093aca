"""SequentialFuse and P-SequentialFuse: figures of the MoPE paper, and what the main encoder sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.trainables.methods.paper import (
    random_batch,
    tiny_towers,
)
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method
from trainables.methods.conditional import Mapper


def _build(name: str, families: dict[str, str] | None = None, **config: Any) -> Any:
    towers = tiny_towers(**(families or {"text": "bert", "image": "vit"}))
    torch.manual_seed(0)
    return build_method(name, config, MethodContext(towers, 3, encoder_dropout=False))


@pytest.mark.parametrize("main", ["image", "text"])
@pytest.mark.parametrize("image", ["vit", "swin"])
@pytest.mark.parametrize("name", ["sequential_fuse", "p_sequential_fuse"])
def test_both_directions_work_over_any_encoder(name, image, main) -> None:
    method = _build(name, {"text": "bert", "image": image}, main=main).train()
    method(random_batch(method.context.towers)).outputs.square().sum().backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and not p.grad.any()]
    # A bias of the attention's keys shifts all scores of a query alike: softmax cannot see it.
    assert not [n for n in silent if not (n.endswith("bias") and ("key" in n or "k_proj" in n))]
    trained = any(p.requires_grad for p in method.towers.parameters())
    assert trained is (name == "sequential_fuse")
    assert method.prefix_layers() == ({} if trained else {"text": 0, "image": 0})


@pytest.mark.parametrize(("name", "count"), [("sequential_fuse", 1), ("p_sequential_fuse", 7)])
def test_every_layer_sees_one_mapped_token_beside_static_ones(name, count) -> None:
    method = _build(name).eval()
    tower, run, seen = method.tower("image"), method.tower("image").layer, []

    def layer(index, sequence, **options):
        seen.append(sequence.prompts)
        after = run(index, sequence, **options)
        assert after.prompts is None
        return after

    tower.layer = layer
    method(random_batch(method.context.towers))
    assert [prompts.shape for prompts in seen] == [(4, count, 48)] * 4
    assert all(torch.equal(prompts[:, -1], seen[0][:, -1]) for prompts in seen)


def test_p_sequential_fuse_is_mope_without_dynamic_prompts() -> None:
    fuse = _build("p_sequential_fuse").eval()
    mope = _build("mope", dynamic=False).eval()
    mope.load_trainable_state_dict(fuse.trainable_state_dict())
    batch = random_batch(fuse.context.towers)
    assert torch.equal(mope(batch).outputs, fuse(batch).outputs)


def test_mapper_is_a_two_layer_perceptron_with_an_output_a_width() -> None:
    torch.manual_seed(0)
    mapper = Mapper(8, [6, 6, 12, 6], hidden=None)
    assert sum(p.numel() for p in mapper.parameters()) == (8 * 4 + 4) + (4 * 6 + 6) + (4 * 12 + 12)
    vector = torch.randn(2, 8)
    weights = {n: p.detach() for n, p in mapper.named_parameters()}
    hidden = torch.nn.functional.gelu(vector @ weights["down.0.weight"].T + weights["down.0.bias"])
    prompts = mapper(vector)
    assert {width: tuple(p.shape) for width, p in prompts.items()} == {6: (2, 1, 6), 12: (2, 1, 12)}
    expected = hidden @ weights["up.12.weight"].T + weights["up.12.bias"]
    assert torch.allclose(prompts[12][:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["sequential_fuse", "p_sequential_fuse"])
def test_refuses_a_main_modality_that_is_not_there(name) -> None:
    with pytest.raises(UserError, match="main=audio: must be text or image"):
        _build(name, main="audio")


def test_refuses_to_prompt_an_encoder_without_layers() -> None:
    families = {"text": "bag_of_words", "image": "vit"}
    with pytest.raises(UserError, match="the text encoder has none"):
        _build("p_sequential_fuse", families)
    with pytest.raises(UserError, match="main=text: its encoder has no layers"):
        _build("sequential_fuse", families, main="text")
    method = _build("sequential_fuse", families)
    assert method(random_batch(method.context.towers)).outputs.shape == (4, 3)
