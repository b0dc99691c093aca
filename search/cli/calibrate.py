"""The command ``calibrate``: compare predictions with this machine's GPU, and keep what is measured of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from search.cli.options import Given, Output, takes
from search.cli.predictors import ClassSettings, encoder_names, make_predictor
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import EncoderSettings
from search.units import format_size
from trainables.step.setting import PrecisionSettings, TrainingSetting

#: Columns of the table by the field that they show.
_SIZES = {
    "predicted_tensors": "tensors\npredicted",
    "measured_tensors": "measured",
    "predicted": "memory\npredicted",
    "measured": "measured",
}


@takes(
    Output,
    EncoderSettings,
    ClassSettings,
    PrecisionSettings,
    TrainingSetting,
    # Complete steps of two encoders are measured on this machine's device, so these settings do not apply.
    without=("prefix", "skip_unused", "audio_seconds", "feature_length", "target"),
)
def calibrate(given: Given) -> None:
    """Measure this machine's GPU: its CUDA context, and how far predictions are off.

    Some 14 configurations run a few real steps. The size of the context and the errors are stored for this
    kind of GPU and version of PyTorch. From then on, predictions on this machine or for a --device of that
    name count that context, and so do searches on such GPUs, which leave a margin for the largest error.
    Without a GPU, the tensors of real steps are tracked, and nothing is stored.
    """
    with waiting("loading PyTorch and the encoders"):
        from search.reporting.progress import error_console
        from trainables.memory.calibration import save_calibration
        from trainables.memory.comparing import compare_device

        predictor = make_predictor(given)
    with error_console().status("measuring") as status:
        calibration, points = compare_device(
            predictor,
            progress=lambda done, total: status.update(f"measuring: {done} of {total} configurations"),
        )
    path = None if calibration is None else save_calibration(calibration)
    rows = [point.to_dict() for point in points]
    if given.make(Output).as_json:
        found = None if calibration is None else calibration.to_dict()
        print_json({"calibration": found, "points": rows, "file": None if path is None else str(path)})
        return
    device = "this CPU" if calibration is None else calibration.device
    title = f"{encoder_names(predictor)} on {device}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("method")
    table.add_column("settings", max_width=28)
    shown = [name for name in _SIZES if calibration is not None or name.endswith("tensors")]
    for heading in (*(_SIZES[name] for name in shown), "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["method"],
            ", ".join(f"{key}={value}" for key, value in row["config"].items()),
            *(format_size(row[name]) for name in shown),
            f"{row['error']:+.1%}",
        )
    console = Console(highlight=False)
    console.print(table)
    if calibration is None:
        furthest = max(abs(point.predicted - point.measured) for point in points)
        line = f"there is no GPU to calibrate; on this CPU, predictions differ by {furthest:,} bytes at most"
    else:
        line = (
            f"{format_size(calibration.context)} of context; predictions are off by "
            f"{calibration.median:.1%} in the median, {calibration.worst:.1%} at most; kept in {path}"
        )
    console.print(line, soft_wrap=True)
