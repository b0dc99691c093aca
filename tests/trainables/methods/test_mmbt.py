"""MMBT and P-MMBT: figures of the PMF paper, and what enters the text encoder."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method
from trainables.methods.mmbt import stretch_means
from trainables.towers import Sequence


@pytest.mark.parametrize(("name", "concatenated"), [("mmbt", "late_concat"), ("p_mmbt", "p_late_concat")])
def test_memory_is_that_of_late_concatenation(name, concatenated) -> None:
    """Table 2: 37.87 and 38.54 GB, 30.90 and 30.82 GB: few image tokens enter the text encoder."""
    predictor = base_predictor(batch_size=32, text_length=512)
    ratio = predictor.predict(name, {}).total / predictor.predict(concatenated, {}).total
    assert ratio == pytest.approx(1, abs=0.02)


def test_every_image_token_costs_memory() -> None:
    predictor = base_predictor(batch_size=32, text_length=512)
    totals = [predictor.predict("mmbt", {"n_image_tokens": n}).total for n in (1, 2, 9)]
    assert totals == sorted(totals)
    assert totals[2] - totals[1] == pytest.approx(7 * (totals[1] - totals[0]), rel=0.2)


@pytest.mark.parametrize("n", [1, 3])
def test_mmbt_is_bert_over_words_and_projected_image_tokens(n) -> None:
    torch.manual_seed(0)
    towers = tiny_towers(image="vit", text="bert")
    method = build_method("mmbt", {"n_image_tokens": n}, MethodContext(towers, 3)).eval()
    batch = random_batch(towers)
    bert, vit = towers["text"].model, towers["image"].model
    with torch.no_grad():
        seen = vit(**batch["image"]).last_hidden_state  # 17 tokens: [CLS] and 4 x 4 patches
        entering = [seen[:, 0], seen[:, :9].mean(dim=1), seen[:, 8:].mean(dim=1)][:n]
        entering = method.projection(torch.stack(entering, dim=1)) + method.positions
        hidden = _run_bert(bert, batch["text"], [entering] * 3, keep=n)
        assert torch.allclose(method(batch).outputs, method.head(hidden[:, 0]), atol=1e-5)


def test_in_p_mmbt_the_image_token_travels_and_prompts_do_not() -> None:
    torch.manual_seed(0)
    towers = tiny_towers(text="bert", image="vit")
    method = build_method("p_mmbt", {"n_prompts": 2}, MethodContext(towers, 3)).eval()
    batch = random_batch(towers)
    vpt = build_method("vpt", {"n_prompts": 2}, MethodContext(towers, 48)).eval()
    state = {f"prompts.{name}": p for name, p in method.side_prompts.state_dict().items()}
    vpt.load_trainable_state_dict({**state, "head.weight": torch.eye(48), "head.bias": torch.zeros(48)})
    with torch.no_grad():
        entering = method.projection(vpt(batch).outputs)[:, None] + method.positions
        prompts = [p.expand(4, -1, -1) for p in method.main_prompts.prompts]
        first, *rest = prompts
        added = [torch.cat([entering, first], dim=1), *rest]
        hidden = _run_bert(towers["text"].model, batch["text"], added, keep=1)
        assert torch.allclose(method(batch).outputs, method.head(hidden[:, 0]), atol=1e-5)


def _run_bert(
    bert: torch.nn.Module, text: dict[str, torch.Tensor], added: list[torch.Tensor], keep: int
) -> torch.Tensor:
    """Run the library's layers; ``added`` joins what is kept behind the words, before each layer.

    Where all of ``added`` is kept it joins before the first layer only.
    """
    mask = text["attention_mask"]
    words = mask.shape[1]
    hidden = bert.embeddings(input_ids=text["input_ids"])
    for index, (layer, tokens) in enumerate(zip(bert.encoder.layer, added, strict=True)):
        if index == 0 or tokens.shape[1] != keep:
            hidden = torch.cat([hidden, tokens], dim=1)
        visible = torch.nn.functional.pad(mask, (0, hidden.shape[1] - words), value=True)
        bias = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        hidden = layer(hidden, bias[:, None, None])[:, : words + keep]
    return hidden


@pytest.mark.parametrize("name", ["mmbt", "p_mmbt"])
@pytest.mark.parametrize(
    ("families", "main"),
    [({"image": "vit", "text": "bert"}, "text"), ({"image": "vit", "view": "dinov2"}, "image")],
)
def test_the_text_encoder_is_entered_where_there_is_one(name, families, main) -> None:
    towers = tiny_towers(**families)
    method = build_method(name, {}, MethodContext(towers, 3))
    assert method.main == main
    assert method.head.in_features == towers[main].width
    assert method(random_batch(towers)).outputs.shape == (4, 3)


@pytest.mark.parametrize("name", ["mmbt", "p_mmbt"])
def test_takes_two_modalities(name) -> None:
    towers = tiny_towers(text="bert", image="vit", view="vit")
    with pytest.raises(UserError, match="fuses 2 modalities, not 3"):
        build_method(name, {}, MethodContext(towers, 3))


def test_p_mmbt_refuses_to_enter_an_encoder_whose_hidden_size_changes() -> None:
    with pytest.raises(UserError, match=r"image encoder's hidden size changes \(24, 48\)"):
        build_method("p_mmbt", {}, MethodContext(tiny_towers(image="swin", view="vit"), 3))
    entered = build_method("p_mmbt", {}, MethodContext(tiny_towers(image="swin", text="bert"), 3))
    assert entered.main == "text"


@pytest.mark.parametrize("name", ["mmbt", "p_mmbt", "prompt_fuse", "blind_prompt"])
def test_refuses_to_enter_an_encoder_without_layers(name) -> None:
    with pytest.raises(UserError, match="the text encoder has none"):
        build_method(name, {}, MethodContext(tiny_towers(text="bag_of_words", image="vit"), 3))


def test_stretches_are_of_real_tokens_and_share_where_they_must() -> None:
    values = torch.arange(7.0)[None, :, None]
    assert stretch_means(Sequence(values, None, 0), 2).flatten().tolist() == [1.5, 4.5]  # 0-3 and 3-6
    assert stretch_means(Sequence(values, None, 0), 7).flatten().tolist() == list(range(7))
    mask = torch.tensor([[True, False, True, True, True, False, False]])  # 0, 2, 3, 4
    assert stretch_means(Sequence(values, mask, 0), 2).flatten().tolist() == [1.0, 3.5]
    assert stretch_means(Sequence(values, mask, 0), 1).item() == 2.25
    assert stretch_means(Sequence(values, mask, 0), 8).flatten().tolist() == [0, 0, 2, 2, 3, 3, 4, 4]
