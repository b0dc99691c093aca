"""How the values of an objective are read and written, by its unit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from search.goals.objectives import Objective
from search.units import GIB, MIB, format_size, parse_size
from trainables.errors import UserError


@dataclass(frozen=True)
class Quantity:
    """Reads and writes the values of one unit.

    Attributes:
        read: Returns the value of a text.
        units: Value of each suffix, from the largest to the smallest; the objective's own unit has value 1.
        symbol: Unit shown next to the name if values are shown as bare numbers. It is empty if a unit would
            be wrong (a share of 1 is not shown as a percentage) or would say nothing new.
        brief: Returns a value as text for a message.
        cell: Returns a value as text for a table.
    """

    read: Callable[[str], float]
    units: Mapping[str, Fraction]
    symbol: str = ""
    brief: Callable[[float], str] = "{:,.0f}".format
    cell: Callable[[float], str] = "{:.3f}".format

    def write(self, value: float) -> str:
        """Return the shortest exact text for a value, with a number >= 1 of at most three decimals."""
        texts = []
        for suffix, unit in self.units.items():
            number = f"{float(Fraction(repr(value)) / unit):.3f}".rstrip("0").rstrip(".")
            if float(number) >= 1 and self.read(number + suffix) == value:
                texts.append(number + suffix)
        own = next(suffix for suffix, unit in self.units.items() if unit == 1)
        return min(texts, key=len, default=f"{value!r}{own}")

    def rounded(self, value: float) -> str:
        """Return a value with three digits and the largest unit that it has one of, for a message."""
        fitting = (suffix for suffix, unit in self.units.items() if abs(value) >= unit)
        suffix = next(fitting, min(self.units, key=lambda name: self.units[name]))
        return f"{value / float(self.units[suffix]):.3g}{suffix}"


def quantity_of(objective: Objective) -> Quantity:
    """Return the quantity that reads and writes an objective's values."""
    known = _QUANTITIES.get(objective.unit)
    if known is not None:
        return known
    article = "an" if objective.name[0] in "aeiou" else "a"
    plain = _numbers(f"{article} {objective.name} above 0", "0.8", {objective.unit: Fraction(1)})
    return Quantity(plain.read, plain.units, objective.unit, brief="{:g}".format)


def _sizes(symbol: str, unit: int) -> Quantity:
    """Return the quantity of sizes; a number needs a unit, as it could be bytes or the objective's unit."""

    def read(text: str) -> float:
        if re.fullmatch(r"[\d.]+", text):
            raise UserError(f"'{text}' lacks its unit; write e.g. 3GiB, 800MiB or 2.5GB")
        return parse_size(text) / unit

    def brief(value: float) -> str:
        return format_size(round(value * unit))

    bytes_of = {"GiB": GIB, "GB": 10**9, "MiB": MIB, "MB": 10**6, "KiB": 2**10, "KB": 10**3, "B": 1}
    suffixes = {suffix: Fraction(size, unit) for suffix, size in bytes_of.items()}
    return Quantity(read, suffixes, symbol, brief)


def _numbers(
    kind: str, examples: str, units: Mapping[str, Fraction], most: float = float("inf"), symbol: str = ""
) -> Quantity:
    """Return the quantity of decimal numbers; a number without a unit is in the objective's own unit."""
    accepted = {suffix.lower(): unit for suffix, unit in units.items()} | {"": Fraction(1)}

    def read(text: str) -> float:
        match = re.fullmatch(r"(\d{1,99}(?:\.\d+)?(?:e[+-]?\d{1,2})?)\s*(.*)", text.lower())
        unit = accepted.get(match[2]) if match else None
        value = float(Fraction(match[1]) * unit) if match and unit else 0.0
        if not 0 < value <= most:
            raise UserError(f"'{text}' is not {kind}; write e.g. {examples}")
        return value

    return Quantity(read, units, symbol)


def _counted(value: float) -> str:
    return f"{value / 1e6:.2f} M"


_PARAMETERS = _numbers(
    "a number of parameters",
    "5M, 300k or 1.5e6",
    {"B": Fraction(10**9), "M": Fraction(10**6), "k": Fraction(1000), "": Fraction(1)},
)

_QUANTITIES = {
    "GiB": _sizes("GiB", GIB),
    "MiB": _sizes("MiB", MIB),
    "parameters": Quantity(_PARAMETERS.read, _PARAMETERS.units, cell=_counted),
    "s": _numbers("a duration", "0.2s or 50ms", {"s": Fraction(1), "ms": Fraction(1, 1000)}, symbol="s"),
    "%": _numbers("a share above 0", "0.6 or 60%", {"%": Fraction(1, 100), "": Fraction(1)}, most=1.0),
}
