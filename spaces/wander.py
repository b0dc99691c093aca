"""Spaces of Wander and its ablations: width d, CP ranks R_h and R_t, form, placement."""

from __future__ import annotations

from typing import Any

from spaces.base import SpaceContext, Trial, method_space, suggest_layers
from trainables.methods.wander import reduced_sizes

#: Greatest rank: the paper's figures go to 16 or so, its default is 8 (Fig. 5).
MAX_RANK = 16


def _width(trial: Trial) -> int:
    return trial.suggest_int("width", 8, 128, log=True)


def _cp(trial: Trial) -> str:
    """The form: the one whose sums are pulled inside is the cheaper one."""
    return trial.suggest_categorical("cp", ["product_of_sums", "sum_of_products"])


def _wander(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    layers = suggest_layers(trial, context, "n_layers")
    return {
        "n_layers": layers,
        "width": _width(trial),
        "rank_hidden": trial.suggest_int("rank_hidden", 1, MAX_RANK, log=True),
        "rank_time": trial.suggest_int("rank_time", 1, MAX_RANK, log=True),
        # Behind the last layer the fused tokens are averaged: there d_t is a factor of the rank, no more
        "target_length": trial.suggest_int("target_length", 1, 8, log=True) if layers > 1 else 1,
        "cp": _cp(trial),
    }


def _point(width: int, layers: int, cp: str = "sum_of_products") -> dict[str, Any]:
    point = {"n_layers": layers, "width": width, "rank_hidden": 8, "rank_time": 8, "cp": cp}
    if layers > 1:
        point["target_length"] = 1
    return {**point, "learning_rate": 2e-3}


def _points(context: SpaceContext) -> list[dict[str, Any]]:
    """The last layer, d = 64 (Table 1) and an eighth of the width (Sec. 4.5); then two layers."""
    eighth = min(max(context.width // 8, 8), 128)
    points = [_point(64, 1), _point(eighth, 1), _point(64, 1, "product_of_sums")]
    return [*points, _point(64, min(2, context.depth))] if context.depth > 1 else points


WANDER = method_space(
    "wander", "Wander: width d, ranks R_h and R_t, d_t, wrapped layers (L_f), CP form", _wander, _points
)


def _vector(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    return {
        "width": _width(trial),
        "rank_hidden": trial.suggest_int("rank_hidden", 1, MAX_RANK, log=True),
        "cp": _cp(trial),
    }


WANDER_VF = method_space(
    "wander_vf",
    "Wander on single vectors: width d, rank R_h, CP form",
    _vector,
    lambda _: [{"width": 64, "rank_hidden": 8, "cp": "sum_of_products", "learning_rate": 2e-3}],
)


def _reduced(trial: Trial, context: SpaceContext) -> dict[str, Any]:
    width, length = reduced_sizes(len(context.widths))
    return {
        "width": trial.suggest_int("width", 2, width, log=True),
        "length": trial.suggest_int("length", 1, length, log=True),
    }


def _reduced_point(context: SpaceContext) -> dict[str, Any]:
    width, length = reduced_sizes(len(context.widths))
    return {"width": width, "length": length, "learning_rate": 2e-3}


SF_OP = method_space(
    "sf_op",
    "sequence fusion by outer products: width and length that features are reduced to",
    _reduced,
    lambda context: [_reduced_point(context)],
)
SF_VF = method_space(
    "sf_vf",
    "sequence fusion by vectors: width and length that features are reduced to, rank R_h",
    lambda trial, context: {
        **_reduced(trial, context),
        "rank_hidden": trial.suggest_int("rank_hidden", 1, MAX_RANK, log=True),
    },
    lambda context: [{**_reduced_point(context), "rank_hidden": 8}],
)
