"""PMF against the paper's figures and wording."""

from __future__ import annotations

import pytest
import torch

from tests.tasks import classification
from tests.trainables.methods.paper import random_batch, tiny_towers
from trainables.errors import UserError
from trainables.memory.predictor import MemoryPredictor
from trainables.methods import MethodContext, build_method
from trainables.methods.pmf import PMFConfig
from trainables.step.setting import TrainingSetting
from trainables.testing.tiny import tiny_model
from trainables.towers import FAMILIES, resolve_encoder


def _built(**config: object):
    return build_method("pmf", config, MethodContext(tiny_towers(text="bert", image="vit"), 3))


def _predictor(text: str, image: str, **setting: object) -> MemoryPredictor:
    encoders = {"text": resolve_encoder("text", text), "image": resolve_encoder("image", image)}
    return MemoryPredictor(encoders, classification(101), TrainingSetting(**setting))  # type: ignore[arg-type]


def test_memory_against_late_concat_is_the_papers() -> None:
    """Table 2: 12.84 GB of 38.54 GB, a third."""
    predictor = _predictor("arch:bert-base", "arch:vit-base", batch_size=32, text_length=512)
    pmf = predictor.predict("pmf", {"n_fusion_layers": 2}).total
    assert 0.27 < pmf / predictor.predict("late_concat", {}).total < 0.36


def test_memory_grows_with_the_fused_layers_and_hardly_with_the_prompts() -> None:
    """Fig. 4 and Fig. 5: L_f decides, the prompt length adds little."""
    predictor = _predictor("minilm", "dinov2-small", text_length=64, image_size=84)
    by_layers = [predictor.predict("pmf", {"n_fusion_layers": n}).total for n in (1, 2, 4, 6)]
    assert by_layers == sorted(by_layers)
    kinds = ("n_query_prompts", "n_query_context_prompts", "n_fusion_context_prompts")
    longer = predictor.predict("pmf", dict.fromkeys(kinds, 16)).total
    assert by_layers[1] < longer < by_layers[2]


@pytest.mark.parametrize("n", [0, 4, -1])
def test_refuses_more_layers_than_the_shallower_encoder_has(n) -> None:
    towers = {
        m: FAMILIES[f].tower(m, tiny_model(f)) for m, f in (("text", "bert"), ("image", "vit"))
    }  # 3 and 4 layers
    with pytest.raises(UserError, match=f"n_fusion_layers={n}: must be"):
        build_method("pmf", {"n_fusion_layers": n}, MethodContext(towers, 3))


def test_each_modality_hears_the_other_only_through_queries() -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 64, (2, 8))
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    images = [{"pixel_values": torch.randn(2, 3, 32, 32)} for _ in range(2)]
    for n_query, hears in ((2, True), (0, False)):
        towers = {m: FAMILIES[f].tower(m, tiny_model(f)) for m, f in (("text", "bert"), ("image", "vit"))}
        # Prompts as large as tokens: at their initial scale the effect would be rounding.
        method = build_method("pmf", {"n_query_prompts": n_query}, MethodContext(towers, 3)).eval()
        for parameter in method.fusion_layers.parameters():
            torch.nn.init.normal_(parameter)
        with torch.no_grad():
            torch.nn.init.zeros_(method.head.heads["image"].weight)  # what is left is the text's head
            first, second = (method({"text": text, "image": image}).outputs for image in images)
        assert (not torch.allclose(first, second, atol=1e-4)) is hears


@pytest.mark.parametrize("count", [3, 7])
def test_every_modality_hears_every_other(count) -> None:
    """Depths 3 and 4, widths 32 and 48; one translator a layer and direction."""
    families = {"text": "bert", "image": "vit", "title": "distilbert", "view": "dinov2", "body": "roberta"}
    families = dict(list({**families, "sketch": "deit", "note": "bert"}.items())[:count])
    towers = tiny_towers(**families)
    torch.manual_seed(0)
    method = build_method("pmf", {"translator_width": 8}, MethodContext(towers, 5)).eval()
    widths = [tower.width for tower in towers.values()]
    translators = sum(9 * b + 8 * a + 8 for i, a in enumerate(widths) for j, b in enumerate(widths) if i != j)
    heads = sum(5 * width + 5 for width in widths)
    assert method.trainable_parameter_count() == 2 * (translators + 3 * 4 * sum(widths)) + heads
    assert method.prefix_layers() == {m: tower.depth - 2 for m, tower in towers.items()}

    batch, other = random_batch(towers), random_batch(towers, seed=1)
    with torch.no_grad():
        for parameter in method.fusion_layers.parameters():
            parameter.normal_()  # at the initial scale the effect would be rounding
        for listener in towers:
            for modality, head in method.head.heads.items():
                head.weight.normal_(std=float(modality == listener))
            logits = method(batch).outputs
            for speaker in towers:
                changed = method({**batch, speaker: other[speaker]}).outputs
                assert not torch.allclose(logits, changed, atol=1e-5), (listener, speaker)


@pytest.mark.parametrize("families", [("bert", "distilbert"), ("bert", "vit")], ids=["equal", "unequal"])
def test_without_translators_answers_are_the_query_outputs(families) -> None:
    """Table 3, third row. Where widths differ (32 and 48), outputs are cut or padded with zeros."""
    towers = tiny_towers(**dict(zip(("text", "other"), families, strict=True)))
    plain, reference = (
        build_method("pmf", {"translate": False, "n_fusion_layers": 1}, MethodContext(towers, 5)).eval()
        for _ in range(2)
    )
    reference.load_state_dict(plain.state_dict())
    (layer,) = reference.fusion_layers
    for name in layer.translators:
        source, target = (towers[modality].width for modality in name.split("_to_"))
        layer.translators[name] = torch.nn.Linear(source, target, bias=False)
        layer.translators[name].weight.data = torch.eye(target, source)
    batch = random_batch(towers)
    with torch.no_grad():
        assert torch.allclose(plain(batch).outputs, reference(batch).outputs, atol=1e-6)
    widths = sum(tower.width for tower in towers.values())
    assert plain.trainable_parameter_count() == 3 * 4 * widths + 5 * widths + 2 * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpt2", "PMF fuses by added tokens, and the text encoder is causal"),
        ("bag_of_words", "PMF fuses layers, and the text encoder has none"),
    ],
)
def test_refuses_encoders_that_cannot_answer(text, message) -> None:
    towers = {m: FAMILIES[f].tower(m, tiny_model(f)) for m, f in (("text", text), ("image", "vit"))}
    with pytest.raises(UserError, match=message):
        build_method("pmf", {}, MethodContext(towers, 3))


def test_lengths_of_each_layer_and_modality() -> None:
    lengths = {"text": [1, 3], "image": [0, 2]}
    method = _built(n_query_prompts=lengths, n_fusion_context_prompts={"text": [2, 0], "image": [1, 1]})
    lower, upper = method.fusion_layers
    assert {m: p.shape[1] for m, p in lower.query.items()} == {"text": 1}
    assert list(lower.translators) == ["text_to_image"]  # the image asks nothing there
    assert {m: p.shape[1] for m, p in lower.query_context.items()} == {"text": 4}
    assert {m: p.shape[1] for m, p in upper.query.items()} == {"text": 3, "image": 2}
    assert {m: p.shape[1] for m, p in upper.fusion_context.items()} == {"image": 1}
    from_text = PMFConfig.from_dict({"n_query_prompts": '{"text": [1, 3], "image": [0, 2]}'})
    assert from_text.n_query_prompts == lengths
    assert PMFConfig.from_dict(from_text.to_dict()) == from_text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"text": [1, 2]}, "2 .n_fusion_layers. for each of text, image"),
        ({"text": [1, 2], "image": [1]}, "2 .n_fusion_layers. for each of text, image"),
        ({"text": [1, 2], "image": [1, -1]}, "must be at least 0"),
        ({"text": [1, 2.5], "image": [1, 1]}, "a whole number or one for each layer, such as"),
        ("many", "a whole number or one for each layer, such as"),
    ],
)
def test_refuses_lengths_that_do_not_fit(value, message) -> None:
    with pytest.raises(UserError, match=message):
        _built(n_query_prompts=value)
