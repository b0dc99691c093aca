"""Models' folders: written whole, checked when they are read, and copied."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from tests.conftest import EXAMPLE_PLUGIN
from tests.trials import DAMAGE, PMF, Saved
from trainables import load_model
from trainables.errors import UserError
from trainables.model import copy_model, read_description, write_model
from trainables.model.description import CONFIG, WEIGHTS
from trainables.plugin import Plugin
from trainables.trial.export import export_model
from trainables.trial.run import TrialRun
from trainables.trial.workbench import TrialSpec

COMMIT = "1" * 40


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _exported(spec: TrialSpec, config: dict[str, Any], folder: Path) -> TrialRun:
    """Write the model of a configuration that has not trained."""
    assignment = replace(PMF, config=config)
    run = TrialRun(spec, assignment)
    checkpoint = folder.with_name(f"{folder.name}-checkpoint")
    checkpoint.mkdir()
    run.save(checkpoint)
    export_model(spec, replace(assignment, checkpoint=Saved(checkpoint)), folder, about={}, card="")
    return run


def test_a_description_is_all_that_loading_needs(trained) -> None:
    description = read_description(trained.folder)
    assert _names(trained.folder) == {CONFIG, WEIGHTS, "README.md"}
    assert (trained.folder / "README.md").read_text() == "# A model\n"
    assert description.configuration == PMF.config
    assert description.task == trained.run.tuned
    assert description.about == {"dataset": "squares"}
    assert list(description.inputs) == ["text", "image"]
    image = description.inputs["image"]
    assert (image.kind, image.column, image.revision, image.folder) == ("image", "image", None, None)
    assert image.facts["size"] == 32
    assert image.fingerprint == trained.spec.fingerprints["image"]
    assert description.setting == trained.run.setting.to_dict()


def test_it_is_described_where_the_data_are_not_prepared(trained, monkeypatch, tmp_path) -> None:
    from trainables.trial import workbench

    expected = read_description(trained.folder).inputs
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(workbench, "_described", {})
    assignment = replace(PMF, checkpoint=Saved(trained.checkpoint))
    export_model(trained.spec, assignment, tmp_path / "other", about={}, card="")
    assert read_description(tmp_path / "other").inputs == expected
    assert not (tmp_path / "elsewhere" / "prepared").exists()


def test_it_is_written_whole_or_not_at_all(trained) -> None:
    description, before = read_description(trained.folder), _names(trained.folder)
    with pytest.raises(UnicodeEncodeError):
        write_model(trained.folder, description, {"weight": torch.zeros(1)}, "\ud800")
    assert _names(trained.folder) == before
    load_model(trained.folder)
    write_model(trained.folder, replace(description, about={"new": True}), {"weight": torch.zeros(1)}, "new")
    assert read_description(trained.folder).about == {"new": True}
    assert {path.name for path in trained.folder.parent.iterdir()} >= {"model"}
    assert not list(trained.folder.parent.glob(".model*"))


def test_something_else_is_not_replaced(trained, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    description = read_description(trained.folder)
    with pytest.raises(UserError, match="mine is there already, and holds no model; name another folder"):
        write_model(tmp_path / "mine", description, {}, "")
    with pytest.raises(UserError, match="mine is there already; name a new folder"):
        copy_model(trained.folder, tmp_path / "mine")
    assert _names(tmp_path / "mine") == {"notes.txt"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_refused_in_a_line(trained, damage: str, tmp_path) -> None:
    DAMAGE[damage](trained.folder / WEIGHTS)
    with pytest.raises(UserError, match=rf"model '.*model': its {WEIGHTS} ") as refused:
        load_model(trained.folder)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError):
        copy_model(trained.folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "is of no trained model"),
        ('{"model_type": "bert"}', "is of no trained model"),
        ('{"format": 2, "configuration": {}}', "is of the format 2; this version reads 1"),
        ('{"format": 1, "configuration": {}}', "is damaged"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(trained, content: str, words: str) -> None:
    (trained.folder / CONFIG).write_text(content)
    with pytest.raises(UserError, match=words) as refused:
        read_description(trained.folder)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match=f"the folder has no {CONFIG}"):
        load_model(tmp_path)


def test_weights_of_another_configuration_are_refused(trained) -> None:
    values = json.loads((trained.folder / CONFIG).read_text())
    values["configuration"]["n_fusion_layers"] = 1
    (trained.folder / CONFIG).write_text(json.dumps(values))
    with pytest.raises(UserError, match=f"its {WEIGHTS} cannot be loaded"):
        load_model(trained.folder)


def test_another_encoder_is_refused(trained, tiny_encoders, tmp_path) -> None:
    encoder = Path(shutil.copytree(tiny_encoders["vit"], tmp_path / "vit"))
    spec = replace(trained.spec, encoders={**trained.spec.encoders, "image": str(encoder)})
    _exported(spec, dict(PMF.config), tmp_path / "written")
    stated = encoder / "preprocessor_config.json"
    stated.write_text(stated.read_text() + " ")
    words = (
        rf"image encoder '{encoder}' is another one .* \(fingerprint \w+, not {spec.fingerprints['image']}\)"
    )
    with pytest.raises(UserError, match=words):
        load_model(tmp_path / "written")
    with pytest.raises(UserError, match=words):
        copy_model(tmp_path / "written", tmp_path / "copy", standalone=True)
    assert not (tmp_path / "copy").exists()
    shutil.rmtree(encoder)
    with pytest.raises(UserError, match="there is no such folder"):
        load_model(tmp_path / "written")


@pytest.mark.parametrize("word", ["", "bow:"])
def test_a_standalone_copy_needs_nothing_else(trained, tiny_encoders, tmp_path, monkeypatch, word) -> None:
    """One encoder is in a folder, the other on the hub; both are gone afterwards."""
    repository = tmp_path / "hub" / "models--somebody--encoder"
    shutil.copytree(tiny_encoders["bert"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    image = Path(shutil.copytree(tiny_encoders["vit"], tmp_path / "vit"))
    (image / "LICENSE").write_text("of the encoder")
    from trainables.data import open_dataset, prepare
    from trainables.towers import resolve_encoders

    names = {"text": f"{word}somebody/encoder", "image": str(image)}
    sources = resolve_encoders(names)
    spec = replace(
        trained.spec,
        encoders=names,
        pooling={modality: source.pooling for modality, source in sources.items()},
        fingerprints={modality: source.fingerprint() for modality, source in sources.items()},
        prepared=prepare(open_dataset(trained.spec.dataset), sources, trained.spec.setting.sizes).key,
    )
    _exported(spec, {"method": "late_concat", "learning_rate": 1e-3}, tmp_path / "written")
    assert read_description(tmp_path / "written").inputs["text"].revision == COMMIT
    expected = load_model(tmp_path / "written").outputs(trained.rows)
    copy_model(tmp_path / "written", tmp_path / "copy", standalone=True)
    shutil.rmtree(image)
    shutil.rmtree(repository)
    monkeypatch.setenv("PARETOFUSE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UserError):
        load_model(tmp_path / "written")
    shutil.move(tmp_path / "copy", tmp_path / "moved")
    assert torch.equal(load_model(tmp_path / "moved").outputs(trained.rows), expected)
    assert (tmp_path / "moved" / "encoders" / "image" / "LICENSE").is_file()
    copy_model(tmp_path / "moved", tmp_path / "again", standalone=True)
    assert torch.equal(load_model(tmp_path / "again").outputs(trained.rows), expected)


def test_a_standalone_copy_has_no_weights_that_it_does_not_use(trained, tmp_path) -> None:
    _exported(trained.spec, {"method": "text_only", "learning_rate": 1e-3}, tmp_path / "only")
    copy_model(tmp_path / "only", tmp_path / "copy", standalone=True)
    assert (tmp_path / "copy" / "encoders" / "text" / "model.safetensors").exists()
    assert not (tmp_path / "copy" / "encoders" / "image" / "model.safetensors").exists()
    model = load_model(tmp_path / "copy")
    assert model.modalities == ("text",)
    assert len(model.predict(trained.rows)) == len(trained.rows)


def test_plugins_are_in_the_folder(trained, tmp_path) -> None:
    source = "from trainables.errors import UserError\nraise UserError('was run')\n"
    spec = replace(trained.spec, plugins=(Plugin.read(EXAMPLE_PLUGIN),))
    _exported(spec, {"method": "gated_fusion", "learning_rate": 1e-3}, tmp_path / "written")
    (name,) = read_description(tmp_path / "written").plugins
    assert name == "plugins/gated_fusion.py"
    assert (tmp_path / "written" / name).read_text() == EXAMPLE_PLUGIN.read_text()
    (tmp_path / "written" / name).write_text(source)
    with pytest.raises(UserError, match="was run"):
        load_model(tmp_path / "written")
