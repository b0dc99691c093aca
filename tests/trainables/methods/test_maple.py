"""MaPLe: which prompts come from which, and how far they travel."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size
from trainables.errors import UserError


def test_a_linear_map_a_prompted_layer() -> None:
    """J = 9 of 12 layers, two prompts. Table 1's 6.5 M are eleven maps, with no head counted."""
    mapping = 768 * 769 + 2 * 768
    assert trained_at_base_size("maple") == 9 * mapping + HEAD + 101  # a bias in either head
    assert round(11 * mapping / 1e6, 1) == 6.5


def test_prompts_depend_on_those_of_the_modality_before() -> None:
    """A cascade: the text's prompts reach the image, and through it the title; not the other way."""
    towers = tiny_towers(text="bert", image="vit", title="distilbert")
    method = build("maple", towers)
    assert {(n, len(maps)) for n, maps in method.couplings.items()} == {("image", 2), ("title", 2)}
    assert [m.weight.shape for m in method.couplings["image"]] == [(48, 32)] * 2
    assert [m.weight.shape for m in method.couplings["title"]] == [(32, 48)] * 2

    def heard(change: torch.nn.Module) -> set[str]:
        """Which modalities' outputs depend on these parameters."""
        reached = set()
        for modality in towers:
            changed = build("maple", towers)
            changed.load_state_dict(method.state_dict())
            with torch.no_grad():
                for other in towers:
                    if other != modality:
                        changed.head.heads[other].weight.zero_()
            before = logits(changed, towers)
            name = next(n for n, module in method.named_modules() if module is change)
            with torch.no_grad():
                for parameter in changed.get_submodule(name).parameters():
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
            if not torch.allclose(logits(changed, towers), before, atol=1e-4):
                reached.add(modality)
        return reached

    assert heard(method.prompts) == {"text", "image", "title"}
    assert heard(method.couplings["image"]) == {"image", "title"}
    assert heard(method.couplings["title"]) == {"title"}


def test_the_last_prompts_travel_on() -> None:
    """With J = 1, the prompts of layer 1 are tokens like any other in all layers."""
    towers = tiny_towers(text="bert", image="vit")
    method = build("maple", towers, n_prompted_layers=1)
    inputs = {"pixel_values": torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    ids = torch.ones(3, 8, dtype=torch.long)
    text = {"input_ids": ids, "attention_mask": ids.bool()}
    tower = towers["image"]
    with torch.no_grad():
        torch.nn.init.normal_(method.prompts[0])
        prompts = method.couplings["image"][0](method.prompts[0]).expand(3, -1, -1)
        sequence = tower.embed(inputs).prompted(prompts)
        image = tower.pool(tower.finish(tower.encode(sequence, tower.depth)))
        sequence = towers["text"].embed(text).prompted(method.prompts[0].expand(3, -1, -1))
        seen = towers["text"].pool(towers["text"].encode(sequence, 3))
        expected = method.head({"text": seen, "image": image})
        assert torch.allclose(method.eval()({"text": text, "image": inputs}).outputs, expected, atol=1e-5)


@pytest.mark.parametrize(("n_layers", "message"), [(4, "text 3, image 4"), (0, "at least 1")])
def test_refuses_more_layers_than_the_shallowest_has(n_layers, message) -> None:
    with pytest.raises(UserError, match=f"n_prompted_layers={n_layers}: must be.*{message}"):
        build("maple", tiny_towers(text="bert", image="vit"), n_prompted_layers=n_layers)
