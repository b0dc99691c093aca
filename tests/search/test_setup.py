"""What a search says when it looks up its settings."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from search.config import SearchConfig
from search.goals.objectives import known_values
from search.setup import look_up, set_up
from trainables.errors import UserError


def test_methods_that_cannot_fuse_the_encoders_are_left_out_with_a_line(
    squares: Path, tiny_encoders: dict[str, Path], capsys
) -> None:
    config = SearchConfig(
        space="all_methods",
        dataset=str(squares),
        text_encoder=str(tiny_encoders["gpt2"]),
        image_encoder=str(tiny_encoders["vit"]),
        image_size=32,
    )
    found = look_up(config)
    said = capsys.readouterr().err
    assert (
        "space 'all_methods' leaves out pmf, mbt (fuses by added tokens, and the text encoder is causal"
        in said
    )
    methods = found.space.parameters(found.backend.context)["method"]
    assert "mope" in methods.values
    assert "pmf" not in methods.values


def test_the_objectives_are_those_of_the_datasets_task(squares, tiny_encoders, tmp_path) -> None:
    names = {"text_encoder": str(tiny_encoders["bert"]), "image_encoder": str(tiny_encoders["vit"])}
    config = SearchConfig(space="linear", dataset=str(squares), **names)
    config.check()
    assert config.search.objectives is None
    found = look_up(config).config
    assert found.search.objectives == ("memory", "accuracy")
    assert SearchConfig.from_json(found.to_json()).search == found.search
    for split in ("train", "validation", "test"):
        table = pq.read_table(squares / f"{split}.parquet").drop_columns("label")
        labels = pa.array([0.5 * row for row in range(len(table))])
        pq.write_table(table.append_column("label", labels), tmp_path / f"{split}.parquet")
    config = config.replace(dataset=str(tmp_path))
    assert look_up(config).config.search.objectives == ("memory", "mae")
    asked = config.replace(objectives=("params", "rmse"))
    assert look_up(asked).config.search.objectives == ("params", "rmse")
    with pytest.raises(UserError, match=r"unknown objective 'acc7'; known: .*mae"):
        look_up(config.replace(objectives=("memory", "acc7")))  # the dataset says no range
    with pytest.raises(UserError, match="--label-smoothing: is not for the task regression; leave it out"):
        look_up(config.replace(label_smoothing=0.1))


def test_a_method_that_cannot_fuse_the_encoders_is_refused_before_ray_starts(squares, tiny_encoders) -> None:
    names = {"text_encoder": str(tiny_encoders["gpt2"]), "image_encoder": str(tiny_encoders["vit"])}
    config = SearchConfig(space="pmf_nas", dataset=str(squares), **names)
    with pytest.raises(UserError, match=r"^PMF fuses by added tokens, and the text encoder is causal"):
        look_up(config)
    with pytest.raises(UserError, match=r"^PMF fuses at least 2 modalities, not 1: text$"):
        look_up(config.replace(modalities=("text",)))


def test_first_points_that_constraints_keep_from_training_are_said(squares, tiny_encoders, capsys) -> None:
    names = {"text_encoder": str(tiny_encoders["bert"]), "image_encoder": str(tiny_encoders["vit"])}
    sizes = {"dataset": str(squares), "image_size": 32, "precision": "fp32"}

    def said(budget: int) -> str:
        config = SearchConfig(space="pmf_nas", constraints=(f"params<={budget}",), **names, **sizes)
        set_up(look_up(config), Console(quiet=True))
        return capsys.readouterr().err

    found = look_up(SearchConfig(space="pmf_nas", **names, **sizes))
    points = found.space.first_points(found.backend.context)
    configs = [found.space.at(point, found.backend.context).config for point in points]
    reports = [found.backend.predictor.predict_configuration(config) for config in configs]
    few, many = sorted(int(known_values(report)["params"]) for report in reports)
    assert said(many) == ""
    line = f"params<={few}: 1 of 2 first points of the space takes {many:,} and is not trained\n"
    assert said(few) == line
    line = f"params<={few - 1}: 2 of 2 first points of the space take {few:,} or more and are not trained\n"
    assert said(few - 1) == line
