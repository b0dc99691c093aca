"""PromptFuse and BlindPrompt: figures of the PMF paper, and who sees whom."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.methods import MethodContext, build_method

BOTH = pytest.mark.parametrize("name", ["prompt_fuse", "blind_prompt"])


@BOTH
def test_memory_is_little_more_than_a_prompted_berts(name) -> None:
    """Table 2: 29.57 and 28.13 GB: no gradient passes through the image encoder."""
    predictor = base_predictor(batch_size=32, text_length=512)
    ratio = predictor.predict(name, {}).total / predictor.predict("p_bert", {}).total
    assert ratio == pytest.approx(1.05, abs=0.02)


@BOTH
def test_is_bert_over_words_prompts_and_image(name) -> None:
    torch.manual_seed(0)
    towers = tiny_towers(image="vit", text="bert")
    method = build_method(name, {"n_prompts": 5}, MethodContext(towers, 3)).eval()
    batch = random_batch(towers)
    bert, mask = towers["text"].model, batch["text"]["attention_mask"]
    words = mask.shape[1]
    visible = torch.nn.functional.pad(mask, (0, 6), value=True)[:, None, None].repeat(1, 1, words + 6, 1)
    if name == "blind_prompt":
        visible[:, :, words : words + 5] = False
        visible[:, :, words : words + 5, words : words + 5] = True
    bias = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    with torch.no_grad():
        method.prompts.normal_()
        image = method.maps["image"](towers["image"].pooled(batch["image"]))
        hidden = bert.embeddings(input_ids=batch["text"]["input_ids"])
        hidden = torch.cat([hidden, method.prompts.expand(4, -1, -1), image[:, None]], dim=1)
        for layer in bert.encoder.layer:
            hidden = layer(hidden, bias)
        assert torch.allclose(method(batch).outputs, method.head(hidden[:, 0]), atol=1e-5)


@BOTH
def test_every_other_modality_is_one_token_mapped_where_its_width_differs(name) -> None:
    torch.manual_seed(0)
    towers = tiny_towers(image="vit", text="bert", title="roberta", view="dinov2")
    method = build_method(name, {}, MethodContext(towers, 3)).eval()
    assert list(method.maps) == ["image", "view"]  # of width 48, the text's is 32
    assert method.prefix_layers() == {"image": 4, "title": 3, "text": 0, "view": 4}
    batch, other = random_batch(towers), random_batch(towers, seed=1)
    with torch.no_grad():
        logits = method(batch).outputs
        for modality in towers:
            assert not torch.allclose(method({**batch, modality: other[modality]}).outputs, logits, atol=1e-6)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("skip_unused", [False, True])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "vit", "dinov2", "swin"])
def test_some_prompts_of_a_layer_can_be_blind(family, skip_unused, attention) -> None:
    (tower,) = tiny_towers(text=family).values()
    tower.skip_unused = skip_unused
    tower.model.config._attn_implementation = attention
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(4, 3, tower.layer_width(0), generator=generator)
    outputs = []
    for seed in (0, 1):
        sequence = tower.embed(random_batch({"text": tower}, seed=seed)["text"])
        with torch.no_grad():
            out = tower.layer(0, sequence.prompted(prompts), tokens=slice(0, 1), blind=slice(0, 2))
            image_changed = sequence.prompted(prompts[:, :2], prompts[:, 2:].roll(1, dims=2))
            other = tower.layer(0, image_changed, tokens=slice(0, 1), blind=slice(0, 2))
        assert torch.allclose(out.prompts[:, :2], other.prompts[:, :2], atol=1e-6)
        assert not torch.allclose(out.tokens, other.tokens, atol=1e-4)
        outputs.append(out.prompts)
    assert torch.allclose(outputs[0][:, :2], outputs[1][:, :2], atol=1e-6)  # blind to the tokens
    if not tower.PROMPTS_FIRST:
        assert not torch.allclose(outputs[0][:, 2], outputs[1][:, 2], atol=1e-4)  # the third is not
