"""Fine-tuned unimodal encoders."""

from __future__ import annotations

import pytest

from tests.trainables.methods.paper import random_batch, tiny_towers
from trainables.errors import UserError
from trainables.methods import MethodContext, build_method


@pytest.mark.parametrize(("name", "modality"), [("image_only", "image"), ("text_only", "text")])
def test_looks_at_one_modality_only(name, modality) -> None:
    towers = tiny_towers(text="bert", image="vit")
    method = build_method(name, {}, MethodContext(towers, 3)).eval()
    assert method.modalities == (modality,)
    assert method({modality: random_batch(towers)[modality]}).outputs.shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "present", "missing"),
    [
        ("image_only", "text", "image"),
        ("text_only", "image", "text"),
        ("vpt", "text", "image"),
        ("p_bert", "image", "text"),
    ],
)
def test_says_which_modality_it_misses(name, present, missing) -> None:
    towers = tiny_towers(**{present: "bert" if present == "text" else "vit"})
    with pytest.raises(UserError, match=rf"of the kind {missing}; there are: {present} \({present}\)"):
        build_method(name, {}, MethodContext(towers, 3))


def test_takes_the_first_of_its_kind() -> None:
    towers = tiny_towers(photo="vit", premise="bert", hypothesis="distilbert")
    for name, modality in (("vpt", "photo"), ("text_only", "premise")):
        method = build_method(name, {}, MethodContext(towers, 3)).eval()
        assert method.modalities == (modality,)
        assert method(random_batch({modality: towers[modality]})).outputs.shape == (4, 3)
