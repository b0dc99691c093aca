"""Full fine-tuning is late concatenation under the Wander paper's name."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.methods.paper import tiny_towers
from tests.trainables.methods.tuning import HEAD, build, logits, trained_at_base_size
from trainables.errors import UserError
from trainables.methods import get_method


def test_trains_the_encoders_and_the_head() -> None:
    """195 M; Table 1 has 220 M with the host's own layers, Table 2 of PMF 196 M for LateConcat."""
    assert trained_at_base_size("full_finetune") == 108_891_648 + 85_798_656 + HEAD


def test_computes_what_late_concat_does() -> None:
    towers = tiny_towers(text="bert", image="vit")
    ours, theirs = (build(name, towers) for name in ("full_finetune", "late_concat"))
    assert torch.equal(logits(ours, towers), logits(theirs, towers))
    assert ours.prefix_layers() == theirs.prefix_layers() == {}


def test_has_no_settings() -> None:
    with pytest.raises(UserError, match="train_encoders"):
        get_method("full_finetune").config_class.from_dict({"train_encoders": "false"})
