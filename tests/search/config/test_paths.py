"""Settings that name files and folders mean the same when a search is resumed from another folder."""

from __future__ import annotations

import pytest

from search import SearchConfig
from trainables.errors import UserError


def test_what_is_there_is_kept_by_its_absolute_path(workplace, monkeypatch) -> None:
    for name in ("data", "bert", "elsewhere"):
        (workplace / name).mkdir()
    for name in ("own.py", "table.parquet"):
        (workplace / name).write_text("")
    given = {
        "dataset": "data",
        "text_encoder": "bow:bert",
        "image_encoder": "./bert",
        "replay": "table.parquet",
        "plugins": ("own.py",),
    }
    config = SearchConfig(space="pmf_nas", name="mine", **given)
    monkeypatch.chdir(workplace / "elsewhere")
    again = SearchConfig.from_json(config.to_json())
    assert again == config
    assert {name: again.to_dict()[name] for name in given} == {
        "dataset": f"{workplace}/data",
        "text_encoder": f"bow:{workplace}/bert",
        "image_encoder": f"{workplace}/bert",
        "replay": f"{workplace}/table.parquet",
        "plugins": (f"{workplace}/own.py",),
    }
    assert again.resumed(dataset="../data", text_encoder="bow:../bert", plugins=("../own.py",)) == config
    with pytest.raises(UserError, match=f"--replay table.parquet: .* started with {workplace}/table.parquet"):
        again.resumed(replay="table.parquet")


def test_names_stay_names(workplace) -> None:
    (workplace / "openclipart").mkdir()
    (workplace / "minilm").mkdir()
    names = {"dataset": "openclipart", "text_encoder": "minilm", "image_encoder": "google/vit-base"}
    assert names.items() <= SearchConfig(space="pmf_nas", **names).to_dict().items()
    missing = {"dataset": "nowhere", "text_encoder": "arch:bert-base", "replay": "nothing.parquet"}
    assert missing.items() <= SearchConfig(space="pmf_nas", **missing).to_dict().items()
