"""What machines say of themselves."""

from __future__ import annotations

from search.execution.readiness.facts import NodeFacts, facts_here
from search.nodes import Node

NODE = Node(4.0, gpus=2, accelerator="A10G", node_id="0a", hostname="one", address="10.0.0.2")


def test_of_this_machine() -> None:
    found = facts_here(NODE)

    assert (found.name, found.gpus, found.accelerator) == ("one (10.0.0.2)", 2, "A10G")
    assert found.torch.startswith("2.")
    assert found.code
    assert "trainables/trial/run.py" in found.files


def test_the_code_is_what_its_files_hold() -> None:
    files = {"search/a.py": "1", "search/b.py": "2"}

    def code(files: dict[str, str]) -> str:
        return NodeFacts.of(NODE, {"files": files}).code

    assert code(files) == code(dict(reversed(files.items())))
    assert code(files) != code({**files, "search/b.py": "3"})
    assert code({}) == ""


def test_without_an_answer() -> None:
    found = NodeFacts.of(NODE)

    assert (found.hostname, found.torch, found.code) == ("one", "", "")


def test_as_a_row() -> None:
    row = NodeFacts.of(NODE, {"torch": "2.13.0", "files": {"a.py": "1"}}).row(kept_out=True)
    assert (row["hostname"], row["node_ip"], row["torch"], row["kept_out"]) == (
        "one",
        "10.0.0.2",
        "2.13.0",
        True,
    )
    assert "files" not in row
