"""The benchmark of the sequence fusions' cost."""

from __future__ import annotations

import importlib
import sys

import torch

from trainables.methods.sequence_fusion import FusionShape


def test_operations_are_those_of_the_matrix_products() -> None:
    """Of SF over one sequence: R_t x l x d_m for the lengths, then R_t x R_h x d_m x d_h for the features."""
    cost = importlib.import_module("fusion_cost")
    fusion = cost.SequenceFusion(FusionShape((4,), (3,), 1, 5, rank_time=2, rank_hidden=6))
    assert cost.operations(fusion, [torch.zeros(7, 4, 3)]) == 2 * 7 * (2 * 4 * 3 + 2 * 6 * 3 * 5)


def test_every_form_has_a_row(monkeypatch, capsys) -> None:
    cost = importlib.import_module("fusion_cost")
    sizes = ("--features", "4", "--length", "3", "--width", "5", "--rank", "2", "--batch-size", "2")
    monkeypatch.setattr(sys, "argv", ["fusion_cost.py", *sizes, "--repeats", "1"])
    cost.main()
    rows = capsys.readouterr().out.splitlines()
    parameters = {"SF-OP": 4**3 * 5 + 3**3, "SF-VF": 2 * 5 * 12 + 3**3, "SF": 2 * 5 * 12 + 2 * 9}
    for name, count in parameters.items():
        assert any(name in row and f" {count} " in row for row in rows)
