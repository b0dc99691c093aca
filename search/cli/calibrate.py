"""The command ``calibrate``: fit predictions to measurements on this machine's device."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from search.cli.options import Given, Output, takes
from search.cli.predictors import ClassSettings, encoder_names, make_predictor
from search.cli.printing import print_json
from search.cli.waiting import waiting
from search.config import EncoderSettings
from search.units import format_size
from trainables.step.setting import PrecisionSettings, TrainingSetting

_SIZES = ("predicted", "allocated", "reserved", "device", "fitted")


@takes(
    Output,
    EncoderSettings,
    ClassSettings,
    PrecisionSettings,
    TrainingSetting,
    # Complete steps of two encoders are measured, so these settings do not apply.
    without=("prefix", "skip_unused", "audio_seconds", "feature_length"),
)
def calibrate(given: Given) -> None:
    """Measure a dozen configurations on this machine's GPU, and fit predictions to the measurements.

    The fitted line, device = a * predicted + b, is stored for this kind of device, version of PyTorch and
    attention kernel. Predictions and searches use it from then on. Without a GPU, the tensors of real steps
    are tracked instead.
    """
    with waiting("loading PyTorch and the encoders"):
        from search.reporting.progress import error_console
        from trainables.memory.calibration import save_calibration
        from trainables.memory.fitting import calibrate_device

        predictor = make_predictor(given)
    with error_console().status("measuring") as status:
        calibration, points = calibrate_device(
            predictor,
            progress=lambda done, total: status.update(f"measuring: {done} of {total} configurations"),
        )
    path = save_calibration(calibration)
    rows: list[dict[str, Any]] = [
        {**point.to_dict(), "fitted": calibration.device_bytes(point.predicted)} for point in points
    ]
    if given.make(Output).as_json:
        print_json({"calibration": calibration.to_dict(), "points": rows, "file": str(path)})
        return
    title = f"{encoder_names(predictor)} on {calibration.device}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("method")
    table.add_column("settings", max_width=28)
    columns = [name for name in _SIZES if any(row[name] is not None for row in rows)]
    for heading in (*columns, "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["method"],
            ", ".join(f"{key}={value}" for key, value in row["config"].items()),
            *(format_size(row[name]) for name in columns),
            f"{row['fitted'] / row['device'] - 1:+.1%}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"device = {calibration.slope:.3f} * predicted + {format_size(max(calibration.intercept, 0))}; "
        f"worst error {calibration.worst:.1%}; kept in {path}",
        soft_wrap=True,
    )
