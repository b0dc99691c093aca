"""A fusion method beside the encoder of a query, for tasks in which one modality searches for the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.methods.base import FusionMethod, FusionOutput, MethodContext, Stage
from trainables.towers import ModalityInput, Sequence

#: The largest inverse of a learned temperature (Radford et al., ICML 2021, CLIP, Sec. 2.5).
MOST_SCALE = 100.0


class Queried(FusionMethod):
    """A method that fuses *documents*, beside a *query* of another modality.

    The outputs (B, 2 E) are a document's and a query's vector, side by side. The method's head gives the
    document's. The query's is a trained projection of what its own encoder pools. That encoder is frozen,
    unless its weights are random or the method trains the whole encoders of all its modalities: full
    fine-tuning is that of the query, too. Both vectors have length 1, so that their dot product is a cosine.
    If the temperature is learnt, the document's length is the temperature's inverse, as in CLIP.

    Args:
        document: The method, over all modalities but the query's, with outputs of size E.
        context: What it was built from, with the tower of the query and with output size 2 E.

    Attributes:
        document: The method.
        projection: Maps the query's pooled vector to its output.
        log_scale: Logarithm of the temperature's inverse; None if it is not learnt.
    """

    n_modalities = (1, 1)

    def __init__(self, document: FusionMethod, context: MethodContext) -> None:
        query = context.query
        assert query is not None
        self.query = query.modality
        alone = {self.query: context.towers[self.query]}
        super().__init__(replace(context, towers=alone, query=None), document.config)
        if document.trained_encoders(document.context, document.config).issuperset(document.modalities):
            self.trained |= {self.query}
            self.towers[self.query] = self._fork(self.query)
        self.context = context
        self.elastic = document.elastic
        self.uses_presence = document.uses_presence
        self.stacked = tuple(f"document.{path}" for path in document.stacked)
        self.document = document
        self.trained |= document.trained
        self.towers.update(dict(document.towers.items()))
        self.projection = nn.Linear(self.tower(self.query).width, context.output_size // 2)
        self.head = nn.ModuleList([document.head, self.projection])
        self.log_scale: nn.Parameter | None = None
        if query.temperature is not None:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(query.temperature)))

    def untouched_layers(self) -> dict[str, int]:
        """Return those of the documents' towers, and all layers of the query's."""
        return {**self.document.untouched_layers(), self.query: self.tower(self.query).depth}

    def modality_of(self, name: str) -> str | None:
        """Return the modality that a parameter serves: the query's, or what the document's method says."""
        if name.startswith(("projection.", f"towers.{self.query}.")):
            return self.query
        return self.document.modality_of(name.removeprefix("document."))

    def forward(self, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        """Return the vectors of documents and queries; see ``FusionMethod.forward``."""
        return self._with_query(self.document(batch), batch)

    def stages(self) -> tuple[Stage, ...]:
        """Return the steps of the document's method, which leave the query as it is."""

        def beside(stage: Stage, sequences: Mapping[str, Sequence]) -> dict[str, Sequence]:
            others = {m: sequence for m, sequence in sequences.items() if m != self.query}
            return {**stage.run(others), self.query: sequences[self.query]}

        return tuple(replace(stage, run=partial(beside, stage)) for stage in self.document.stages())

    def conclude(self, sequences: Mapping[str, Sequence]) -> FusionOutput:
        """Return the vectors for sequences that have passed the prefix and all stages."""
        documents = {m: sequence for m, sequence in sequences.items() if m != self.query}
        return self._with_query(self.document.conclude(documents), sequences)

    def _with_query(self, found: FusionOutput, batch: Mapping[str, ModalityInput]) -> FusionOutput:
        documents = F.normalize(found.outputs.float(), dim=-1)
        if self.log_scale is not None:
            documents = documents * self._scale()
        queries = F.normalize(self.projection(self.vector(batch, self.query)).float(), dim=-1)
        return FusionOutput(torch.cat([documents, queries], dim=-1), found.aux_loss)

    def _scale(self) -> Tensor:
        assert self.log_scale is not None
        return self.log_scale.clamp(max=math.log(MOST_SCALE)).exp()
