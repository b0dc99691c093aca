"""Gives damaged options and damaged files to the command line, and counts what goes wrong.

Each case runs the program's ``main`` in this process, in a folder of its own, up to the moment at which a
search would hand its first trial to Ray; such a case counts as accepted. Ray, MLflow and the measuring of
``calibrate`` are never started. Stores and histories are real, and are written and read by the program.

Commands: every option with every kind of damage, options given twice, and pairs of options. Files: every file
of a finished search, of an interrupted one, of a one-shot search with its subnets, of the cache, a dataset,
an encoder, a table of recorded trials and a plugin, damaged in every way, with the commands that read it.

A case should end with exit code 0, 1 or 2 (nothing interrupts it), and never with a traceback. It should not
hang. A command that is refused should say so in one line, and leave no new file.

    python benchmarks/bad_input.py --cases 2000 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bad_input_place import (
    ENCODERS,
    REPLAYED,
    ROOT,
    SIZES,
    TRAINING,
    Outcome,
    Workplace,
    listed,
    seam,
    train_once,
)
from damage import DAMAGES, VALUES, damage
from rich.console import Console
from rich.table import Table

from search import cli
from search.cli.options import is_repeated, options_of
from search.config.markers import Only
from trainables.options import Option

#: Search options that are about training; all others are tried with recorded trials.
TRAINED = ("Trials", "Data and encoders")
COMMANDS = {
    "": cli.search,
    "predict": cli.predict,
    "explain": cli.explain,
    "calibrate": cli.calibrate,
    "methods": cli.methods,
    "spaces": cli.spaces,
    "datasets": cli.datasets,
    "encoders": cli.encoders,
    "cache": cli.cache,
}
BASES = {"predict": [*ENCODERS, *SIZES], "explain": [*ENCODERS, *SIZES], "calibrate": [*ENCODERS, *SIZES]}


def base_of(command: str, option: Option) -> list[str]:
    """Return the arguments beside which an option is tried."""
    only = option.find(Only)
    if command:
        return BASES.get(command, [])
    if only is not None and only.strategy == "oneshot":
        return [*TRAINING, "--strategy", "oneshot"]
    return TRAINING if option.panel in TRAINED else REPLAYED


def without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return arguments, which are pairs of a flag and a value, without some flags."""
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in flags for word in pair]


def words(option: Option, value: str, draw: random.Random) -> list[str]:
    """Return an option with a value; a switch has none, so its value is attached or follows."""
    if option.type is bool:
        negative = f"--no-{option.flag[2:]}"
        forms = ([option.flag, negative], [f"{option.flag}={value}"], [option.flag, value], [negative])
        return draw.choice(forms)
    return [option.flag, value]


def command_cases(count: int, draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Yield what is damaged and the arguments of each case: each option with each kind, then pairs."""
    options = [(command, o) for command, run in COMMANDS.items() for o in options_of(run)]
    single: list[tuple[str, list[str]]] = []

    def case(command: str, kinds: dict[str, list[str]], option: Option) -> list[str]:
        base = without(base_of(command, option), [] if "twice" in kinds else list(kinds))
        given = [word for flag, arguments in kinds.items() if flag != "twice" for word in arguments]
        return [*([command] if command else []), *base, *given]

    for command, option in options:
        for kind, values in VALUES.items():
            given = words(option, draw.choice(values), draw)
            single.append((f"{kind}", case(command, {option.flag: given}, option)))
        value = draw.choice(VALUES[draw.choice(list(VALUES))])
        twice = [*words(option, value, draw), *words(option, plausible(option), draw)]
        single.append(("twice", case(command, {option.flag: twice}, option)))
        likely = words(option, plausible(option), draw)
        single.append(("nothing", case(command, {option.flag: likely}, option)))
        single.append(("no value", case(command, {option.flag: [option.flag]}, option)))
    for command in ("methods", "spaces", "cache"):
        single += [("argument", [command, draw.choice(values)]) for values in VALUES.values()]
    draw.shuffle(single)
    yield from single[:count]
    for _ in range(count - len(single)):
        command, option = draw.choice(options)
        other = draw.choice([o for c, o in options if c == command])
        kinds = {}
        for chosen in (option, other):
            kind = draw.choice(list(VALUES))
            value = plausible(chosen) if draw.random() < 0.6 else draw.choice(VALUES[kind])
            kinds[chosen.flag] = words(chosen, value, draw)
        yield "pair", case(command, kinds, option)


def plausible(option: Option) -> str:
    """Return a value that an option might take."""
    named = {
        "resume": "done",
        "warm_start": "done",
        "space": "pmf_nas",
        "replay": "table.parquet",
        "plugins": "plugin.py",
        "dataset": "data",
        "text_encoder": "bert",
        "image_encoder": "vit",
        "plot": "new.png",
        "older_than": "1d",
        "max_size": "1GiB",
        "limit": "1GiB",
        "max_memory": "1GiB",
        "gpu_memory": "1GiB",
        "time_budget": "1h",
        "hang_timeout": "1m",
        "constraints": "accuracy>=50%",
        "maximise": "batch_size",
        "encoder": "text=bert",
        "pooling": "text=mean",
        "settings": "n_fusion_layers=2",
        "name": "new",
    }
    if option.name in named:
        return named[option.name]
    if isinstance(option.default, str):
        return option.default
    if is_repeated(option) or option.default is None:
        return "2"
    return str(option.default if isinstance(option.default, int | float) else "2")


def readers(path: Path) -> list[list[str]]:
    """Return the commands that read a file, by its place below the live folder."""
    top, *rest = path.parts
    if top == "cache":
        return [
            TRAINING,
            ["cache"],
            ["cache", "--max-size", "1KiB"],
            ["predict", *ENCODERS, *SIZES],
        ]
    if rest[0] == "runs":
        own = REPLAYED if rest[1] in ("done", "cut") else TRAINING
        return [
            ["--resume", rest[1]],
            ["--resume", rest[1], "--num-samples", "+3"],
            [*own, "--warm-start", rest[1]],
            [*own, "--name", rest[1]],
        ]
    if rest[0] == "plugin.py":
        return [[*REPLAYED, "--plugin", "plugin.py"], ["methods", "--plugin", "plugin.py"]]
    if rest[0] == "table.parquet":
        return [REPLAYED, ["--resume", "cut"], [*REPLAYED, "--warm-start", "done"]]
    if rest[0] == "data":
        return [TRAINING, ["--resume", "one"]]
    if rest[0] in ("bert", "vit"):
        return [TRAINING, ["predict", *ENCODERS, *SIZES], ["spaces", *ENCODERS], ["--resume", "trained"]]
    return []


def file_cases(
    place: Workplace, count: int, draw: random.Random
) -> Iterator[tuple[str, Path, str, list[str]]]:
    """Yield what is damaged, the file, the kind of damage and the command: each file with each kind first."""
    files = [Path(name) for name, kind in listed(place.kept).items() if kind is not None]
    files = [path for path in files if readers(path) and path.suffix != ".lock"]
    files.sort(key=lambda path: re.sub(r"[0-9a-f]{12,}", "", str(path)))  # names of entries vary
    every = [(path, how, arguments) for path in files for how in DAMAGES for arguments in readers(path)]
    draw.shuffle(every)
    firsts = {(path, how): arguments for path, how, arguments in every}
    ordered = [(path, how, arguments) for (path, how), arguments in firsts.items()]
    ordered += [each for each in every if each not in ordered]
    for number in range(count):
        path, how, arguments = ordered[number % len(ordered)]
        yield f"{how} {path}", path, how, arguments


def run_commands(place: Workplace, count: int, draw: random.Random) -> list[Outcome]:
    """Run cases of damaged options."""
    outcomes = []
    with seam():
        for what, arguments in command_cases(count, draw):
            outcome = place.run(what, arguments)
            place.check(outcome)
            outcomes.append(outcome)
    return outcomes


def run_files(place: Workplace, count: int, draw: random.Random) -> list[Outcome]:
    """Run cases of damaged files."""
    outcomes = []
    others = [place.kept / "work" / name for name in VALUES["foreign"][:5]]
    with seam(train_once):
        for what, path, how, arguments in file_cases(place, count, draw):
            if damage(place.live / path, how, draw.choice(others), draw):
                before = listed(place.live)
                outcome = place.run(what, arguments)
                place.check(outcome, before)
                outcomes.append(outcome)
            place.restore()
    return outcomes


def confirm(outcomes: Sequence[Outcome], place: Workplace, count: int, draw: random.Random) -> list[str]:
    """Run some refused command lines as processes; return those that end otherwise than in this process."""
    possible = [
        o
        for o in outcomes
        if o.code in (0, 2) and not any("\0" in word or "\udcff" in word for word in o.arguments)
    ]
    different = []
    for outcome in draw.sample(possible, min(count, len(possible))):
        command = [sys.executable, "-m", "search", *outcome.arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place.work)
        said = done.stderr.strip().splitlines()[-1:] or [""]
        if (done.returncode, said[0][:300]) != (outcome.code, outcome.said):
            different.append(f"{outcome.arguments}: {done.returncode}, {said[0]}")
        place.restore()
    return different


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Return the counts of some cases."""
    faults = Counter(fault for outcome in outcomes for fault in outcome.faults)
    codes = Counter("accepted" if o.code is None else str(o.code) for o in outcomes)
    names = ("traceback", "exit code", "hang", "more than a line", "left behind")
    counts = {name.replace(" ", "_"): faults[name] for name in names}
    return {
        "cases": len(outcomes),
        **counts,
        "endings": dict(sorted(codes.items())),
        "seconds": round(seconds),
    }


def show(parts: dict[str, dict[str, Any]], faulty: Sequence[Outcome]) -> None:
    """Print the counts, and each case with a fault."""
    console = Console(width=120)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    first = next(iter(parts.values()))
    for name in first:
        table.add_column(name.replace("_", " "), justify="right")
    for part, counts in parts.items():
        shown = (
            ", ".join(f"{k}: {v}" for k, v in c.items()) if isinstance(c, dict) else str(c)
            for c in counts.values()
        )
        table.add_row(part, *shown)
    for outcome in faulty:
        named = f"{', '.join(outcome.faults)}: {outcome.what}: {outcome.arguments!r}"
        console.print(named[:600], markup=False, soft_wrap=True)
        console.print(f"    {outcome.said}", markup=False, soft_wrap=True)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="command lines; half as many damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("commands", "files"))
    parser.add_argument("--real", type=int, default=10, help="command lines that are run as processes, too")
    parser.add_argument("--details", type=Path, help="a file for the tracebacks of all faults")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "bad_input.json")
    options = parser.parse_args()
    out, details = options.out.resolve(), options.details and options.details.resolve()
    document: dict[str, Any] = {"seed": options.seed}
    faulty: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="bad-input-", ignore_cleanup_errors=True) as folder:
        place = Workplace(Path(folder))
        for part, run, count in (
            ("commands", run_commands, options.cases),
            ("files", run_files, options.cases // 2),
        ):
            if options.only not in (None, part):
                continue
            began, draw = time.monotonic(), random.Random(f"{options.seed} {part}")
            outcomes = run(place, count, draw)
            document[part] = summary(outcomes, time.monotonic() - began)
            faulty += [outcome for outcome in outcomes if outcome.faults]
            if part == "commands":
                different = confirm(outcomes, place, options.real, draw)
                document[part] |= {"run_as_processes": options.real, "ended_differently": len(different)}
                print(*different, sep="\n")
        os.chdir(ROOT)
    show({part: document[part] for part in ("commands", "files") if part in document}, faulty)
    if details:
        details.write_text(
            "\n\n".join(
                f"{asdict(outcome)['arguments']}\n{outcome.what} {outcome.faults}\n{outcome.details}"
                for outcome in faulty
            )
        )
    document["faults"] = [
        {"what": o.what, "arguments": ascii(o.arguments)[:300], "faults": o.faults, "said": ascii(o.said)}
        for o in faulty
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
