"""The report's page, opened in headless Chromium."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.reporting.report.page import render
from tests.browser import Opened, chromium
from tests.search.reporting.report.documents import CLASSES, document, recorded

#: A text that would run if it were read as HTML, or if it ended the script element that it is in.
HOSTILE = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'><b>bold</b>"
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Opened]]:
    """Opens the page of a document."""
    folder = tmp_path_factory.mktemp("reports")
    numbers = itertools.count()
    with chromium() as browser:

        def opened(shown: dict[str, Any], script: str = "", **context: Any) -> Opened:
            path = folder / f"{next(numbers)}.html"
            path.write_text(render(shown), encoding="utf-8")
            made = Opened(browser, path, script, **{"viewport": WIDE, "accept_downloads": True, **context})
            made.page.set_default_timeout(20_000)
            made.page.wait_for_selector("html[data-ready]")
            return made

        yield opened


@pytest.fixture(scope="module")
def one(show) -> Opened:
    """The page of one search, with its chart drawn."""
    opened = show(document())
    opened.page.wait_for_selector("#front .chart .main-svg")
    return opened


@pytest.fixture(scope="module")
def two(show) -> Opened:
    """The page of two searches, with its chart drawn."""
    opened = show(document(recorded(), recorded("pmf_nas", "second")))
    opened.page.wait_for_selector("#front .chart .main-svg")
    return opened


def members() -> list[dict[str, Any]]:
    """Return the trials on the front of the search that ``one`` shows, the cheapest first."""
    search = recorded()
    trials = {trial["id"]: trial for trial in search["trials"]}
    return [trials[name] for name in search["members"]]


def slide(opened: Opened, budget: float) -> str:
    """Move the slider and return what is named."""
    opened.page.locator("#budget").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", budget
    )
    return opened.page.locator("#best strong").inner_text()


def choose(opened: Opened, label: str, value: str) -> None:
    opened.page.locator("#front").get_by_label(label, exact=True).select_option(value)


def axis_title(opened: Opened, axis: str) -> Any:
    return opened.page.locator(f"#front .{axis}title").first


def selected_point(opened: Opened) -> tuple[float, float]:
    """Return where the selected trial is: in the middle of the ring that is drawn around it."""
    opened.page.evaluate("scrollTo(0, 0)")
    opened.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    ring = opened.page.locator("#front .subplot.xy .scatterlayer .trace").last.locator(".points path")
    box = ring.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def selected_rows(opened: Opened, section: str) -> list[str]:
    return opened.page.locator(f"#{section} tr.selected td:first-child").all_inner_texts()


class TestFile:
    def test_it_is_small_and_names_nothing_outside(self) -> None:
        text = render(document())
        assert len(text.encode()) < 4e6
        head = text.split('id="document"')[0]
        assert "src=" not in head
        assert "http" not in head.replace("http-equiv", "")

    def test_the_same_document_is_the_same_page(self) -> None:
        assert render(document()) == render(document())

    def test_what_json_and_files_cannot_hold_is_left_out(self) -> None:
        search = recorded(trials=2)
        search["trials"][1]["values"]["accuracy"] = float("nan")
        search["verdict"] = "half a pair: \ud800"
        text = render(document(search))
        assert "NaN" not in text.split('id="document">')[1].split("<")[0]
        assert "half a pair: ?" in text.encode().decode()


class TestOpening:
    def test_nothing_is_asked_for_and_nothing_goes_wrong(self, one) -> None:
        for section in one.page.locator("section").all():
            section.scroll_into_view_if_needed()
        one.page.wait_for_selector("#classes .chart .main-svg")
        one.page.evaluate("scrollTo(0, 0)")
        assert one.said == []
        assert one.asked == []

    def test_first_comes_what_was_found(self, one) -> None:
        verdict = one.page.locator(".verdict")
        assert verdict.inner_text() == recorded()["verdict"]
        assert one.page.locator("#front .chart").bounding_box()["y"] < 400

    def test_what_has_no_result_is_drawn_in_its_own_way(self, one) -> None:
        legend = one.page.locator("#front .legendtext").all_text_contents()
        assert {"on the front", "probe", "other trials", "stopped", "infeasible", "out of memory"} == {
            *legend
        }

    def test_an_old_browser_shows_the_tables_and_says_so(self, show) -> None:
        opened = show(document(), "delete window.DecompressionStream")
        assert "lacks DecompressionStream" in opened.page.locator("#trouble").inner_text()
        assert len(opened.page.locator("#members tbody tr").all()) == len(members())
        assert not opened.page.locator("#progress .chart").is_visible()
        assert opened.said == []
        opened.close()

    @pytest.mark.parametrize("trials", [0, 1])
    def test_little_was_tried(self, show, trials) -> None:
        search = recorded(trials=1)
        if not trials:
            search |= {"trials": [], "members": [], "best_of_methods": [], "probe": None, "verdict": None}
            search |= {"memory": [], "progress": [], "classes": None, "disagreements": None}
        opened = show(document(search), viewport=NARROW)
        opened.page.wait_for_selector("#front .chart .main-svg")
        assert opened.said == []
        assert opened.page.locator("#parameters").count() == 0
        assert search["notes"][0] in opened.page.locator("#notes").inner_text()
        opened.close()

    def test_a_thousand_trials_take_at_most_five_times_as_long_as_one(self, show) -> None:
        opened = show(document(recorded(trials=1)))
        devtools = opened.context.new_cdp_session(opened.page)
        # The page's own time: others share the machine.
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

        def seconds(trials: int) -> float:
            opened.path.write_text(render(document(recorded(trials=trials))), encoding="utf-8")
            opened.page.reload()
            opened.page.wait_for_selector("#front .chart .main-svg")
            measured = devtools.send("Performance.getMetrics")["metrics"]
            return next(metric["value"] for metric in measured if metric["name"] == "TaskDuration")

        one, thousand = seconds(1), seconds(1000)
        assert thousand < 5 * one
        rows = opened.page.locator("#trials tbody tr")
        assert rows.count() == 200
        opened.page.get_by_role("button", name="Show all 1,001").click()
        assert rows.count() == 1001
        opened.close()


class TestBudget:
    def test_each_budget_names_the_best_member_within_it(self, one) -> None:
        for number, trial in enumerate(members(), 1):
            named = slide(one, trial["values"]["memory"] + 5e-4)
            assert named.startswith(f"Member {number}: {trial['method']} at")
            accuracy = 100 * trial["values"]["accuracy"]
            error = 100 * trial["standard_error"]["accuracy"]
            assert f"{accuracy:.1f} ± {error:.1f} %" in one.page.locator("#best").inner_text()

    def test_the_card_has_its_figures_and_commands(self, one) -> None:
        last = members()[-1]
        slide(one, 10)
        card = one.page.locator(".card")
        assert f"p = {last['p_front']:.2f}" in card.inner_text()
        assert f"p = {last['p_better']:.2f}" in card.inner_text()
        summaries = card.locator(".commands summary").all_inner_texts()
        assert summaries == [
            "Train it again",
            "Load it in Python",
            "Label new data",
            "Copy the model out",
            "Serve it over HTTP",
        ]

    def test_keys_move_it(self, one) -> None:
        slide(one, 10)
        slider = one.page.locator("#budget")
        slider.focus()
        one.page.keyboard.press("Home")
        assert one.page.locator("#best strong").inner_text().startswith("Member 1:")
        assert slider.get_attribute("aria-valuetext").split(": ")[1] == "1"
        one.page.keyboard.press("End")
        assert one.page.locator("#best strong").inner_text().startswith(f"Member {len(members())}:")

    def test_a_number_moves_it(self, one) -> None:
        slide(one, 10)
        budget = members()[2]["values"]["memory"] + 5e-4
        one.page.get_by_label("Budget in GiB").fill(str(budget))
        assert one.page.locator("#best strong").inner_text().startswith("Member 3:")

    def test_it_says_what_more_memory_buys(self, one) -> None:
        first, second = members()[:2]
        slide(one, first["values"]["memory"] + 1e-4)
        assert (
            f"The next better one needs {1024 * second['values']['memory']:.0f} MiB"
            in one.page.locator("#best").inner_text()
        )

    def test_commands_are_copied(self, one) -> None:
        one.context.grant_permissions(["clipboard-read", "clipboard-write"])
        slide(one, 10)
        commands = recorded()["commands"][members()[-1]["id"]]
        one.page.get_by_role("button", name="Copy: Load it in Python").click()
        one.page.get_by_text("Copied").wait_for()
        assert one.page.evaluate("navigator.clipboard.readText()") == commands["load"]


class TestFront:
    def test_pointing_shows_settings_and_objectives(self, one) -> None:
        slide(one, 10)
        last = members()[-1]
        one.page.mouse.move(*selected_point(one))
        shown = one.page.locator("#front .hoverlayer")
        shown.locator("text").first.wait_for()
        text = shown.text_content()
        assert last["method"] in text
        assert f"accuracy {100 * last['values']['accuracy']:.1f} ±" in text
        rate = last["config"]["learning_rate"]
        mantissa, exponent = f"{rate:.2e}".split("e")
        written = f"{rate:g}" if rate >= 1e-3 else f"{float(mantissa):g}e{int(exponent)}"
        assert f"learning_rate = {written}" in text

    def test_charts_have_no_button_that_sends_them_away(self, one) -> None:
        buttons = one.page.locator("#front .modebar-btn")
        titles = {button.get_attribute("data-title") for button in buttons.all()}
        assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}

    def test_axes_can_be_chosen(self, one) -> None:
        assert axis_title(one, "x").text_content() == "predicted training memory (GiB)"
        choose(one, "Across", "step_time")
        one.page.locator("#front .xtitle", has_text="step_time (s)").wait_for()
        ticks = one.page.locator("#front .xaxislayer-above").first.text_content()
        one.page.locator("#front").get_by_label("log").first.check()
        one.page.wait_for_function(
            "before => before !== document.querySelector('#front .xaxislayer-above').textContent",
            arg=ticks,
        )
        one.page.locator("#front").get_by_label("log").first.uncheck()
        choose(one, "Across", "memory")
        one.page.locator("#front .xtitle", has_text="predicted training memory (GiB)").wait_for()

    def test_the_test_split_can_be_chosen(self, one) -> None:
        split = one.page.locator("#front .switcher")
        split.get_by_label("test", exact=True).check()
        one.page.locator("#front .ytitle", has_text="test accuracy (%)").wait_for()
        split.get_by_label("both").check()
        one.page.locator("#front .legendtext", has_text="on test").wait_for()
        split.get_by_label("validation").check()
        one.page.locator("#front .ytitle", has_text="validation accuracy (%)").wait_for()

    def test_a_click_selects_everywhere(self, one) -> None:
        slide(one, 10)
        one.page.locator("#members tbody tr").nth(1).click()
        assert selected_rows(one, "members") == ["2"]
        assert selected_rows(one, "trials") == [members()[1]["id"]]
        assert one.page.locator("#best strong").inner_text().startswith("Member 2:")
        assert one.page.locator("#classes select").input_value() == members()[1]["id"]

    def test_a_point_selects(self, one) -> None:
        slide(one, 10)
        point = selected_point(one)
        one.page.get_by_label("Budget in GiB").fill("0")
        assert selected_rows(one, "members") == ["1"]
        one.page.mouse.move(point[0] + 1, point[1])
        one.page.locator("#front .hoverlayer text").first.wait_for()
        one.page.mouse.click(*point)
        one.page.wait_for_function(
            "number => document.querySelector('#members tr.selected td').innerText === number",
            arg=str(len(members())),
        )

    def test_what_is_not_on_the_front_is_shown_beside_the_best(self, one) -> None:
        slide(one, 10)
        row = one.page.locator("#trials tbody tr", has_text="out of memory").first
        row.locator("button").click()
        card = one.page.locator(".card").inner_text()
        assert "Selected: " in card
        assert "CUDA out of memory" in card
        assert one.page.locator("#best strong").inner_text().startswith(f"Member {len(members())}:")


def labels(opened: Opened, section: str, axis: str) -> list[str]:
    """Return the texts of an axis of a section's first chart, once it is drawn."""
    opened.page.locator(f"#{section}").scroll_into_view_if_needed()
    opened.page.locator(f"#{section} .{axis}tick text").first.wait_for()
    return opened.page.locator(f"#{section} .chart").first.locator(f".{axis}tick text").all_text_contents()


class TestCharts:
    def test_methods_are_named(self, one) -> None:
        search = recorded()
        methods = {trial["id"]: trial["method"] for trial in search["trials"]}
        assert labels(one, "methods", "y") == [methods[name] for name in search["best_of_methods"]] + [
            "probe"
        ]

    def test_members_are_named_by_what_they_are_without_a_modality(self, one) -> None:
        shown = labels(one, "robustness", "y")
        assert [text.split(" at ")[0] for text in shown] == [
            f"{number}: {trial['method']}" for number, trial in enumerate(members(), 1)
        ]

    def test_classes_are_named(self, one) -> None:
        assert labels(one, "classes", "x") == labels(one, "classes", "y") == CLASSES

    def test_progress_is_over_what_is_chosen(self, one) -> None:
        section = one.page.locator("#progress")
        section.get_by_label("epochs").check()
        section.locator(".xtitle", has_text="epochs").wait_for()
        assert float(labels(one, "progress", "x")[-1]) > 100

    def test_each_objective_has_its_importance(self, one) -> None:
        importance = recorded()["importance"]
        section = one.page.locator("#parameters")
        section.get_by_label("Objective", exact=True).select_option("memory")
        section.locator(".part").nth(1).scroll_into_view_if_needed()
        first = max(importance["memory"], key=importance["memory"].get)
        one.page.wait_for_function(
            "name => [...document.querySelectorAll('#parameters .part:nth-of-type(3) .ytick text')]"
            ".at(-1)?.textContent === name",
            arg=first.replace("_", " "),
        )


class TestTables:
    def test_headings_sort(self, one) -> None:
        heading = one.page.locator("#members thead").get_by_text("validation accuracy, %")
        cells = one.page.locator("#members tbody tr td:first-child")
        numbers = [str(number) for number in range(1, len(members()) + 1)]
        heading.click()
        assert cells.all_inner_texts() == numbers[::-1]
        heading.click()
        assert cells.all_inner_texts() == numbers

    def test_words_filter(self, one) -> None:
        filter_ = one.page.get_by_label("Filter")
        filter_.fill("uniadapter finished")
        found = [
            trial
            for trial in recorded()["trials"]
            if trial["method"] == "uniadapter" and trial["status"] == "finished"
        ]
        one.page.get_by_text(f"{len(found)} of 101 trials").wait_for()
        assert one.page.locator("#trials tbody tr").count() == len(found)
        filter_.fill("")
        one.page.get_by_text("101 of 101 trials").wait_for()

    def test_the_file_has_all_numbers(self, one) -> None:
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name="Download CSV").click()
        assert download.value.suggested_filename == "clipart.csv"
        rows = list(
            csv.DictReader(io.StringIO(Path(download.value.path()).read_bytes().decode(), newline=""))
        )
        trials = recorded()["trials"]
        assert [row["id"] for row in rows] == [trial["id"] for trial in trials]
        for row, trial in zip(rows, trials, strict=True):
            check_numbers(row, trial)


def check_numbers(row: dict[str, str], trial: dict[str, Any]) -> None:
    """Check that a row of CSV has all that is known of a trial."""
    places = {"values": "", "test": "test_", "spread": "spread_", "standard_error": "standard_error_"}
    for part, prefix in places.items():
        for name, value in trial[part].items():
            assert float(row[prefix + name]) == value
    for name in ("p_front", "p_better", "epochs", "seeds"):
        assert row[name] == "" if trial[name] is None else float(row[name]) == trial[name]
    for name, value in trial["config"].items():
        shown = row["method" if name == "method" else f"config.{name}"]
        assert shown == value if isinstance(value, str) else json.loads(shown or "null") == value
    assert (row["status"], row["message"] or None) == (trial["status"], trial["message"])


class TestLook:
    def test_it_is_as_dark_as_the_system_until_one_chooses_or_prints(self, show) -> None:
        opened = show(document(), color_scheme="dark", viewport=NARROW)
        opened.page.wait_for_selector("#front .chart .main-svg")

        def colours() -> tuple[str, str]:
            return opened.page.evaluate(
                "[getComputedStyle(document.body).backgroundColor,"
                " document.querySelector('#front .xtitle').style.fill]"
            )

        dark = colours()
        opened.page.get_by_role("button", name="Switch to light colours").click()
        opened.page.wait_for_function(
            "before => document.querySelector('#front .xtitle').style.fill !== before", arg=dark[1]
        )
        light = colours()
        assert brightness(dark[0]) < 50 < 200 < brightness(light[0])
        assert brightness(dark[1]) > 120 > brightness(light[1])
        opened.page.get_by_role("button", name="Switch to dark colours").click()
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert colours() == light
        assert opened.page.locator(".chart:not(:has(.main-svg))").count() == 0
        opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
        opened.page.wait_for_function(
            "before => document.querySelector('#front .xtitle').style.fill === before", arg=dark[1]
        )
        opened.close()

    def test_nothing_is_wider_than_a_narrow_window(self, two) -> None:
        two.page.set_viewport_size(NARROW)
        for section in two.page.locator("section").all():
            section.scroll_into_view_if_needed()
        two.page.wait_for_selector("#classes .chart .main-svg")
        assert two.page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
        assert two.said == []
        two.page.set_viewport_size(WIDE)


def brightness(colour: str) -> float:
    """Return the mean of the three parts of ``rgb(…)``."""
    return sum(float(part) for part in colour.split("(")[1].rstrip(")").split(",")[:3]) / 3


class TestSeveralSearches:
    def test_tables_and_the_slider_hold_both(self, two) -> None:
        names = two.page.locator("#members tbody tr td:nth-child(2)").all_inner_texts()
        assert {*names} == {"clipart", "second"}
        assert len(two.page.locator(".marks span").all()) == len(names)
        both = [*members(), *[t for t in recorded("pmf_nas", "second")["trials"] if t["front"]]]
        best = max(both, key=lambda trial: trial["values"]["accuracy"])
        assert f": {best['method']} at" in slide(two, 10)

    def test_one_can_be_switched_off(self, two) -> None:
        two.page.get_by_role("checkbox", name="clipart").uncheck()
        names = two.page.locator("#members tbody tr td:nth-child(2)").all_inner_texts()
        assert {*names} == {"second"}
        assert "second" in slide(two, 10)
        two.page.get_by_role("checkbox", name="clipart").check()
        two.page.wait_for_function("document.querySelectorAll('#trials tbody tr').length === 200")

    def test_each_has_its_own_settings(self, two) -> None:
        two.page.locator("#parameters").get_by_label("Search").select_option("second")
        section = two.page.locator("#parameters")
        section.scroll_into_view_if_needed()
        section.locator(".grid .main-svg").first.wait_for()
        parameters = recorded("pmf_nas", "second")["parameters"]
        assert section.locator(".grid .chart").count() == len(parameters)
        assert two.said == []


def test_texts_of_users_are_texts(show) -> None:
    search = recorded(name=HOSTILE, trials=30)
    search |= dict.fromkeys(("space", "dataset", "task", "verdict", "command", "go_on"), HOSTILE)
    search["notes"].append(HOSTILE)
    search["data"].append([HOSTILE, HOSTILE])
    search["classes"]["names"] = [HOSTILE, *search["classes"]["names"][1:]]
    search["parameters"].append({"name": HOSTILE, "kind": "choice", "log": False})
    for trial in search["trials"]:
        trial["config"][HOSTILE] = HOSTILE
        trial |= {"method": HOSTILE, "message": HOSTILE}
    for shown in search["classes"]["members"].values():
        shown["per_class"][0]["name"] = HOSTILE
    for row in search["disagreements"]["rows"]:
        row["values"] = {
            HOSTILE: {"text": HOSTILE},
            "image": {"picture": HOSTILE},
            "other": {"note": HOSTILE},
        }
        row |= {"truth": HOSTILE, "answers": dict.fromkeys(row["answers"], HOSTILE)}
    search["commands"] = {
        name: dict.fromkeys(commands, HOSTILE) for name, commands in search["commands"].items()
    }
    opened = show(document(search))
    for section in opened.page.locator("section").all():
        section.scroll_into_view_if_needed()
    opened.page.wait_for_selector("#classes .chart .main-svg")
    opened.page.mouse.move(*selected_point(opened))
    hover = opened.page.locator("#front .hoverlayer text").first
    hover.wait_for()
    assert "<script>" in hover.text_content()
    assert opened.page.locator("h1").inner_text() == HOSTILE
    assert opened.page.locator("#disagreements blockquote").first.text_content() == HOSTILE
    assert opened.page.locator("body b, body img").count() == 0
    assert opened.page.evaluate("window.harmed") is None
    assert opened.said == []
    assert opened.asked == []
    opened.close()
