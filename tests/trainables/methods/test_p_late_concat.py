"""P-LateConcat against the PMF paper's figures."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import base_predictor, random_batch, tiny_towers
from trainables.methods import MethodContext, build_method


def test_memory_against_late_concat_is_the_papers() -> None:
    """Table 2: 30.82 GB of 38.54 GB."""
    predictor = base_predictor(batch_size=32, text_length=512)
    prompted, tuned = (predictor.predict(name, {}).total for name in ("p_late_concat", "late_concat"))
    assert prompted / tuned == pytest.approx(0.80, abs=0.03)


def test_is_the_prompted_encoders_side_by_side() -> None:
    towers = tiny_towers(text="bert", image="vit")
    torch.manual_seed(0)
    both = build_method("p_late_concat", {"n_prompts": 3}, MethodContext(towers, 3)).eval()
    batch = random_batch(towers)
    expected = both.head.bias
    columns = both.head.weight.split([32, 48], dim=1)
    for (modality, name), weight in zip({"text": "p_bert", "image": "vpt"}.items(), columns, strict=True):
        one = build_method(name, {"n_prompts": 3}, MethodContext(towers, 3)).eval()
        state = {f"prompts.{n}": p for n, p in both.prompts[modality].state_dict().items()}
        one.load_trainable_state_dict({**state, "head.weight": weight, "head.bias": torch.zeros(3)})
        expected = expected + one(batch).outputs
    assert torch.allclose(both(batch).outputs, expected, atol=1e-5)
