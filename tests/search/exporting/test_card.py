"""The cards of models."""

from __future__ import annotations

import copy
from typing import Any

from search.exporting.card import card

ABOUT: dict[str, Any] = {
    "search": "mine",
    "space": "pmf_nas",
    "trial_id": "trial-003",
    "place": 2,
    "members": 4,
    "run": "trial-007",
    "checkpoint": "trial-007/checkpoint_000001",
    "seed": 11,
    "seeds": 3,
    "method": "pmf",
    "objective": {"name": "accuracy", "direction": "maximize"},
    "values": {"memory": 1.3, "accuracy": 0.831},
    "test": {"accuracy": 0.8},
    "metrics": {"validation": {"accuracy": 0.84}, "test": {"accuracy": 0.81}},
    "figures": [{"name": "accuracy", "value": "83.1 ± 1.2 %", "test": "80.0 ± 1.3 %"}],
    "p_front": 0.9,
    "p_better": 0.7,
    "robustness": {"text": {"accuracy": 0.5}},
    "missing": {"text": {"accuracy": "50.0 %"}},
    "probe": {"accuracy": "78.0 %"},
    "memory": {"memory": 1.3, "inference_memory": 0.4, "trainable_parameters": 78436},
    "target": "cuda",
    "settings": {"epochs": 2, "odd|name": "`a|b`"},
    "dataset": {
        "name": "my.csv",
        "fingerprint": "abc",
        "task": "classification into 2 classes",
        "rows": {"train": 1000, "validation": 10, "test": None},
        "classes": 2,
    },
    "encoders": {
        "text": {
            "name": "org/bert",
            "kind": "text",
            "revision": "c0ffee",
            "fingerprint": "f1",
            "license": "see its own licence",
        }
    },
    "plugins": True,
    "train": "python search.py train --method pmf",
    "versions": {"paretofuse": "0.1.0", "torch": "2", "transformers": "5"},
    "made": "2026-11-27",
}


def test_it_says_what_is_known() -> None:
    text = card(ABOUT)
    for said in (
        "number 2 of the 4 on the search's front",
        "| accuracy | 83.1 ± 1.2 % | 80.0 ± 1.3 % |",
        "means of 3 trainings with different seeds",
        "those of `trial-007`",
        "validation accuracy 0.84; test accuracy 0.81.",
        "really on the front: 0.90",
        "cheaper neighbor on the front: 0.70",
        "reaches accuracy 78.0 % on test",
        "Without text, it reaches accuracy 50.0 % on test",
        "Training takes 1.3 GiB of a GPU's memory",
        "0.4 GiB",
        "78,436 trained parameters",
        "1,000 train, 10 validation |",
        "| text | `org/bert` | c0ffee | `f1` | see its own licence |",
        "plugins",
        "python search.py train --method pmf",
    ):
        assert said in text, said
    assert "odd\\|name" in text
    assert "`` `a\\|b` ``" in text
    assert "None" not in text


def test_what_is_not_known_is_left_out() -> None:
    about = copy.deepcopy(ABOUT)
    about |= {"place": None, "seeds": 1, "p_front": None, "p_better": None, "missing": {}, "probe": None}
    about |= {"test": {"accuracy": None}, "plugins": False, "method": "probe:text", "target": "cpu"}
    about["memory"] = {"memory": 1.3, "trainable_parameters": 5}
    text = card(about)
    assert "No test values are known." in text
    assert "of a CPU's memory" in text
    assert "A linear model on the frozen features of text." in text
    for absent in ("on the search's front", "Probability", "plugins", "seeds", "None"):
        assert absent not in text
