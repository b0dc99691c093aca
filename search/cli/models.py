"""The answer of ``predict`` about a single model, without a fusion method."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from rich.console import Console

from search.cli.options import Given, Output
from search.cli.predictors import ClassSettings, calibrated, memory_table, training_setting
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import EncoderSettings
from search.target import in_words
from search.units import format_size
from trainables.options import Help, Settings

#: Fields of the setting that matter to a single model. The sizes of inputs depend on its kind.
_OF_THE_STEP = (
    *("batch_size", "gradient_accumulation", "attention", "target", "compute_capability", "context_bytes"),
    *("expandable_segments", "precision", "optimizer", "optimizer_kernel", "gradient_checkpointing"),
)
#: Options of ``predict`` that go together with ``--model``, by field.
GO_WITH_MODEL = {
    *_OF_THE_STEP,
    *("model", "limit", "classes", "text_length", "image_size", "context_size", "device", "as_json"),
}


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """A model without a fusion method."""

    model: Annotated[
        str | None,
        Help(
            "Predict the training of a single Hugging Face classifier of texts or images instead of a fusion "
            "method: a bundled encoder, a folder, a hub name or arch:NAME. Only its configuration is read. "
            "With --limit, say whether it fits.",
            metavar="NAME|FOLDER",
        ),
    ] = None


def show_model(name: str, given: Given, limit: int | None, device: str | None) -> None:
    """Print the memory of training a classifier, and whether it fits.

    Args:
        name: The classifier's name.
        given: The options, of which those in ``GO_WITH_MODEL`` are read.
        limit: Bytes that it may take, or None.
        device: Name of the calibrated kind of GPU that it is for; None is this machine's.
    """
    classes = given.make(ClassSettings).classes
    with waiting("loading PyTorch and the model"):
        from trainables.memory.classifiers import Classifier

        classifier = Classifier.resolve(name, classes)
        side = given.make(EncoderSettings).image_size or classifier.image_size
        setting = replace(training_setting(given, calibrated(device)), image_size=side)
        report = classifier.memory(setting)
    size = "image_size" if classifier.of_images else "text_length"
    chosen = {field: getattr(setting, field) for field in (*_OF_THE_STEP, size)}
    fits = None if limit is None else report.memory <= limit
    if given.make(Output).as_json:
        print_json(
            {
                "model": name,
                "trainable_parameters": report.trainable_parameters,
                "checkpoint": report.checkpoint,
                "memory": report.to_dict(),
                "fits": fits,
                "setting": {**chosen, "classes": classes},
            }
        )
        return
    console = Console(highlight=False)
    console.print(memory_table(f"classifier {name}", "for one step", report))
    inputs = f"{side} px" if classifier.of_images else f"{setting.text_length} tokens"
    console.print(
        f"for a step of {setting.batch_size} samples, {inputs}, in {setting.precision}", soft_wrap=True
    )
    console.print(in_words(setting), soft_wrap=True)
    if limit is not None:
        verdict = "fits" if fits else "does not fit"
        console.print(f"{verdict} into {format_size(limit)}", soft_wrap=True)
