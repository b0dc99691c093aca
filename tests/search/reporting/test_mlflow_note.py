"""The description of a search's run: it says what was found, fits into MLflow, and leaves users' words."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from search.records.place import Place
from search.reporting.mlflow_note import BEGIN, END, Note
from search.reporting.rows import front_rows, method_rows
from tests.search.reporting.histories import of_three_methods

PAGE = "#/experiments/1/runs/0123456789abcdef0123456789abcdef?workflowType=machine_learning"


def make_note(**changes: Any) -> Note:
    history = of_three_methods()
    note = Note(
        verdict="pmf at 6.00 GiB is better than the probe",
        standing="4 trials finished; hypervolume 0.500",
        objectives=history.shown,
        front=front_rows(history),
        methods=method_rows(history),
        probe=["probe: val acc 0.5"],
        place=Place("/data/runs", "mine"),
        go_on="python search.py --resume mine --num-samples +10",
        best=front_rows(history)[-1],
        commands={"load": "from trainables import load_model", "serve": "mlflow models serve -m FOLDER"},
        facts=["dataset `posts`"],
    )
    return replace(note, **changes)


def link(trial_id: str) -> str | None:
    return None if trial_id == "b" else PAGE


def test_it_begins_with_the_verdict_and_shows_the_front_as_a_table() -> None:
    lines = make_note().render(link).replace("&nbsp;", "").splitlines()
    assert [line for line in lines if line][1] == "**pmf at 6.00 GiB is better than the probe**"
    head = lines.index("**Front**") + 2
    assert lines[head] == "| memory GiB | val acc | test acc | trained params | p front | method | run |"
    assert lines[head + 1].count("|") == lines[head].count("|")
    rows = lines[head + 2 : head + 5]
    assert rows[0] == f"| 1.000 | 0.500 | 0.400 | 1.00 M | - | linear | [a]({PAGE}) |"
    assert rows[1].endswith("| wander | b |"), "there is no run to link to"
    assert rows[2].startswith("| 6.000 | 0.900 |")
    methods = lines.index("**Best of each method**") + 2
    assert [row.split(" | ")[-2] for row in lines[methods + 2 : methods + 5]] == ["pmf", "wander", "linear"]


def test_it_says_how_to_go_on_and_how_to_use_the_best() -> None:
    text = make_note().render(link)
    for part in (
        "```sh\npython search.py --resume mine --num-samples +10\n```",
        "report /data/runs/mine\n```",
        "**Use pmf**, the best in accuracy (0.900)",
        "```python\nfrom trainables import load_model\n```",
        "```sh\nmlflow models serve -m FOLDER\n```",
        "- probe: val acc 0.5",
        "- dataset `posts`",
    ):
        assert part in text


def test_without_a_front_it_says_what_was_done() -> None:
    text = make_note(verdict=None, front=[], methods=[], probe=[], best=None, commands={}).render(link)
    assert "4 trials finished" in text
    assert "|" not in text
    assert "--resume" in text


@pytest.mark.parametrize("members", [20, 200])
def test_a_long_front_is_cut_to_what_mlflow_takes(members) -> None:
    rows = front_rows(of_three_methods())[-1:] * members
    text = make_note(front=rows).render(link)
    assert len(text) <= 5000
    assert ("more, see the artifacts" in text) == (members == 200)
    assert text.endswith(END)


def test_what_users_write_stays_and_an_earlier_note_is_replaced() -> None:
    note = make_note()
    text = note.render(link)
    for empty in ("", note.verdict or ""):  # the verdict alone is what earlier versions wrote
        assert note.merged(empty, link) == text
    mine = note.merged("my words", link)
    assert mine == f"my words\n\n{text}"
    later = make_note(standing="5 trials finished")
    both = later.merged(f"{mine}\nand more", link)
    assert both == f"my words\n\n{later.render(link)}\nand more"
    assert both.count(BEGIN) == 1
    assert note.merged("x" * 7990, link) is None, "there is no room"


def test_a_long_command_is_folded_and_stays_the_same() -> None:
    command = "python search.py train --method pmf " + "--set 'a=b c' --set width=64 " * 20
    text = make_note(commands={"train": command}).render(link)
    folded = next(part for part in text.split("```sh\n") if part.startswith("python search.py train"))
    folded = folded.split("\n```")[0]
    assert max(map(len, folded.splitlines())) <= 105
    joined = folded.replace("\\\n", "")  # as a shell does
    assert shlex.split(joined) == shlex.split(command)
