"""What trials need on the machine on which they run, and what of it a machine lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from trainables.errors import UserError
from trainables.towers import resolve_encoder
from trainables.trial.workbench import TrialSpec, has_prepared, opened


@dataclass(frozen=True)
class Provisions:
    """What trials need; it can be sent to other machines.

    Attributes:
        spec: Settings that all trials share.
        data: Hash of the dataset's content.
    """

    spec: TrialSpec
    data: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and folders of this machine that hold the dataset and the encoders."""
        named = [self.spec.dataset.partition(":")[2], self.spec.dataset, *self.spec.encoders.values()]
        return tuple(dict.fromkeys(path for path in named if os.path.isabs(path) and os.path.exists(path)))

    def lacking(self) -> list[tuple[str, str]]:
        """Return what this machine lacks, each with what is there instead."""
        try:
            for plugin in self.spec.plugins:
                plugin.load()
        except UserError as error:
            return [("plugin", str(error))]
        return [*self._data(), *self._encoders()]

    def _data(self) -> Iterator[tuple[str, str]]:
        what = f"dataset {self.spec.dataset}"
        try:
            if has_prepared(self.spec):
                return
            found = opened(self.spec).fingerprint
        except UserError as error:
            yield what, _reason(error, self.spec.dataset)
            return
        if found != self.data:
            yield what, f"holds other data (fingerprint {found}, not {self.data})"

    def _encoders(self) -> Iterator[tuple[str, str]]:
        spec = self.spec
        for modality, name in spec.encoders.items():
            what = f"encoder {name}"
            try:
                source = resolve_encoder(modality, name, spec.pooling[modality], spec.kinds[modality])
                found = source.fingerprint()
            except UserError as error:
                yield what, _reason(error, name)
                continue
            if found != spec.fingerprints[modality]:
                yield what, f"is another one (fingerprint {found}, not {spec.fingerprints[modality]})"


def _reason(error: UserError, name: str) -> str:
    """Return why something cannot be opened, without what its name says already."""
    path = name.rpartition(":")[2]
    if os.path.isabs(path) and not os.path.exists(path):
        return "is not there"
    return str(error)
