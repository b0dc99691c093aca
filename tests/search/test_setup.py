"""What a search says when it looks up its settings."""

from __future__ import annotations

from pathlib import Path

from search.config import SearchConfig
from search.setup import look_up


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
