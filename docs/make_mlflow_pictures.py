"""Make the pictures of mlflow.md from a finished search.

``python docs/make_mlflow_pictures.py --tracking-uri sqlite:///mlflow.db --search NAME``

It starts an MLflow server on the database, opens its pages in Chromium (Debian's package ``chromium``), and
takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 1280, 760
LARGEST = 200_000  # bytes of a picture
#: Columns of the list of runs.
COLUMNS = (
    "params.`method`",
    "metrics.`memory`",
    "metrics.`accuracy`",
    "metrics.`test.accuracy`",
    "metrics.`p_front`",
    "tags.`status`",
)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--search", required=True)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    client = MlflowClient(given.tracking_uri)
    parent, front = find(client, given.search)
    state = browser(parent.info.experiment_id, parent.info.run_id)
    with server(given.tracking_uri) as address, state as page:
        for name, show in pages(client, address, page, parent, front).items():
            show()
            picture = given.folder / f"mlflow-{name}.png"
            page.screenshot(path=picture)
            size = picture.stat().st_size
            assert size < LARGEST, f"{picture}: {size} bytes"
            print(picture, size)


def find(client: MlflowClient, name: str) -> tuple[Run, list[Run]]:
    """Return a search's run, and those of its front."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.kind = 'search' and attributes.run_name = '{name}'")
    parent = found[0]
    mine = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}' and tags.front = 'true'"
    return parent, list(client.search_runs([parent.info.experiment_id], mine))


@contextmanager
def server(uri: str) -> Iterator[str]:
    """Run an MLflow server; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}health").close()
            except OSError:
                time.sleep(1)
            else:
                break
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browser(experiment: str, parent: str) -> Iterator[Page]:
    """Open a page in a browser that has chosen columns, and has closed MLflow's assistant."""
    state = {
        "selectedColumns": COLUMNS,
        "runsExpanded": {parent: True},
        "orderByKey": "metrics.`memory`",
        "orderByAsc": True,
    }
    stored = {
        f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment}"]-ReactComponentState': json.dumps(state),
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.assistant.panelOpen_v1": "false",
    }
    script = "".join(
        f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});" for key, value in stored.items()
    )
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.add_init_script(script)
        yield page
        chromium.close()


def pages(
    client: MlflowClient, address: str, page: Page, parent: Run, front: list[Run]
) -> dict[str, Callable[[], None]]:
    """Return what shows each page, by the picture's name."""
    experiment, training = parent.info.experiment_id, "workflowType=machine_learning"
    runs = f"#/experiments/{experiment}/runs"
    listed = quote(json.dumps([run.info.run_id for run in front]))
    compared = f"#/compare-runs?runs={listed}&experiments={quote(json.dumps([experiment]))}&{training}"

    def go(path: str, seen: str) -> None:
        page.goto("about:blank")  # another hash alone would not load the page again
        page.goto(f"{address}{path}")
        page.get_by_text(seen, exact=True).first.wait_for(timeout=120_000)
        page.wait_for_timeout(6000)

    def show_runs() -> None:
        go(f"{runs}?{training}&orderByKey=attributes.start_time&orderByAsc=false", parent.info.run_name)

    def show_front() -> None:
        wanted = quote('tags.front = "true"')
        order = f"orderByKey={quote('metrics.`memory`')}&orderByAsc=true"
        go(f"{runs}?{training}&searchFilter={wanted}&{order}", front[0].info.run_name)

    def show_note() -> None:
        go(f"{runs}/{parent.info.run_id}?{training}", "Description")
        page.get_by_text("Show more", exact=True).first.click()
        page.get_by_text("Description", exact=True).first.evaluate("it => it.scrollIntoView()")
        page.wait_for_timeout(500)

    def show_comparison() -> None:
        go(compared, "Parallel Coordinates Plot")

    def show_chart() -> None:
        go(compared, "Scatter Plot")
        page.get_by_text("Scatter Plot", exact=True).click()
        page.wait_for_timeout(1000)
        for label, name in (("X-axis:", "memory"), ("Y-axis:", "accuracy")):
            choose(page, label, name)
        page.wait_for_timeout(1500)

    shown = {
        "runs": show_runs,
        "front": show_front,
        "note": show_note,
        "compare": show_comparison,
        "chart": show_chart,
    }
    models = client.search_logged_models([experiment], filter_string="tags.front = 'true'")
    if models:

        def show_model() -> None:
            go(f"#/experiments/{experiment}/models/{models[0].model_id}?{training}", models[0].name)

        shown["model"] = show_model
    return shown


def choose(page: Page, label: str, name: str) -> None:
    """Choose a parameter or metric for an axis."""
    box = page.get_by_text(label, exact=True).locator("xpath=following::*[@role='combobox'][1]")
    box.click()
    page.get_by_role("option", name=name, exact=True).first.click()


if __name__ == "__main__":
    main()
