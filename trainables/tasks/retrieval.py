"""Retrieval: queries of one modality find the documents that the other modalities make up, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UserError
from trainables.methods import Query
from trainables.task_settings import FIRST_TEMPERATURE
from trainables.tasks.base import Metric, Task
from trainables.tasks.labels import LabelColumn
from trainables.tasks.registry import register_task

#: Ranks up to which a right answer counts.
RECALLS = (1, 5, 10)
#: Similarities that are computed at once.
_AT_ONCE = 2**22


def _metrics(prefix: str, short: str, asking: str, answer: str) -> tuple[Metric, ...]:
    recalls = [
        Metric(
            f"{prefix}r_at_{k}",
            "maximize",
            0.0,
            1.0,
            "%",
            f"share of the {asking} that have a right {answer} among the first {k}",
            f"{short}R@{k}",
            True,
        )
        for k in RECALLS
    ]
    rank = f"rank of a right {answer} over the {asking}"
    return (
        *recalls,
        Metric(f"{prefix}median_rank", "minimize", None, 1.0, "", f"median {rank}", f"{short}MdR"),
        Metric(f"{prefix}mean_rank", "minimize", None, 1.0, "", f"mean {rank}", f"{short}MnR"),
    )


@register_task
@dataclass(frozen=True)
class Retrieval(Task):
    """Queries find documents. A sample is a pair of both that belong together.

    Labels (B, 2) are the numbers of a sample's query and document; equal contents have equal numbers. Outputs
    (B, 2 E) are the vectors of the document and of the query, see ``trainables.methods.Queried``. The larger
    their dot product, the better they match.

    A split is searched as a whole. Every query ranks the distinct documents of the split, and every document
    its distinct queries (``reverse_…``). A document is right for a query if they are a pair in some row, so
    that a repeated text finds each of its documents. The best right one counts. Others that match as well
    rank before it: a model that tells nothing apart gets the last rank, not the first.

    Attributes:
        modality: The modality that is the query.
        size: Length E of the vectors.
        contrast: ``infonce`` or ``margin``, see ``loss``.
        temperature: The fixed temperature of ``infonce``; None learns it.
        margin: By how much right pairs should match better, in cosines, with ``margin``.
    """

    modality: str = "text"
    size: int = 256
    contrast: str = "infonce"
    temperature: float | None = None
    margin: float = 0.05

    name = "retrieval"
    metrics = (
        *_metrics("", "", "queries", "document"),
        *_metrics("reverse_", "rev. ", "documents", "query"),
    )
    settings = ("query", "embedding_size", "retrieval_loss", "temperature", "margin")
    label_types = "nothing: the pair itself is what is learnt"
    has_labels = False

    @classmethod
    def takes(cls, kind: pa.DataType) -> bool:
        """Return True: labels are not read."""
        return True

    @classmethod
    def of_column(cls, column: LabelColumn) -> Self:
        """Return the task that the settings describe; the column is not read.

        Raises:
            UserError: If no query is given, or something that the loss does not use.
        """
        given = column.settings
        if given.query is None:
            raise UserError("--task retrieval: needs --query MODALITY, the modality that searches")
        if given.retrieval_loss == "margin" and given.temperature is not None:
            raise UserError(
                f"--temperature {given.temperature}: is for --retrieval-loss infonce; leave it out"
            )
        if given.retrieval_loss == "infonce" and given.margin != cls.margin:
            raise UserError(f"--margin {given.margin}: is for --retrieval-loss margin; leave it out")
        return cls(given.query, given.embedding_size, given.retrieval_loss, given.temperature, given.margin)

    @classmethod
    def of_size(cls, output_size: int) -> Self:
        """Return the task with vectors of half this length, whose query is the text."""
        return cls(size=output_size // 2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the task that ``to_dict`` or ``encoding`` describes; unknown entries are ignored."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})

    def to_dict(self) -> dict[str, Any]:
        """Return the task's name and attributes."""
        return {"task": self.name, **asdict(self)}

    def encoding(self) -> dict[str, Any]:
        """Return the task's name and the query."""
        return {"task": self.name, "modality": self.modality}

    @property
    def query(self) -> Query:
        """The modality that is the query, and where its learnt temperature starts."""
        learns = self.contrast == "infonce" and self.temperature is None
        return Query(self.modality, FIRST_TEMPERATURE if learns else None)

    @property
    def loss_kind(self) -> str:
        """The query and the loss, and whether a temperature is learnt."""
        return f"{self.query} {self.contrast}"

    @property
    def output_size(self) -> int:
        """Twice the length of the vectors."""
        return 2 * self.size

    @property
    def kept_size(self) -> int:
        """Two: the ranks in both directions."""
        return 2

    def paired(self, contents: Mapping[str, Sequence[Hashable]]) -> Tensor:
        """Return the labels (N, 2) of rows.

        >>> Retrieval("text").paired({"text": ["a", "b", "a"], "image": [7, 7, 8]}).tolist()
        [[0, 0], [1, 0], [0, 1]]

        Args:
            contents: For each modality, what is equal for two rows if their contents are.
        """
        others = [values for modality, values in contents.items() if modality != self.modality]
        return self.encode(list(zip(contents[self.modality], zip(*others, strict=True), strict=True)))

    def encode(self, values: Sequence[Any], where: str = "row", first: int = 0) -> Tensor:
        """Return labels (N, 2), numbered in the order in which queries and documents occur.

        Args:
            values: Pairs of what stands for a query's and a document's content.
            where: Word for a row in error messages.
            first: Number of the first row, for error messages.

        Raises:
            UserError: If there is no pair.
        """
        numbers: tuple[dict[Hashable, int], dict[Hashable, int]] = ({}, {})
        labels = []
        for row, value in enumerate(values, first):
            if value is None:
                raise UserError(f"{where} {row}: has no query and document")
            pairs = zip(numbers, value, strict=True)
            labels.append([known.setdefault(each, len(known)) for known, each in pairs])
        return torch.tensor(labels, dtype=torch.long).reshape(-1, 2)

    def decode(self, labels: Tensor) -> list[Any]:
        """Return the numbers of query and document as pairs."""
        return [tuple(pair) for pair in labels.tolist()]

    def example_labels(self, rows: int) -> Tensor:
        """Return pairs that have nothing in common."""
        numbers = torch.arange(rows)
        return torch.stack([numbers, numbers], dim=1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return how well the right pairs of a batch are told from the wrong ones.

        Wrong pairs are a query and a document of different samples, unless either content is equal. With
        gradient accumulation, samples are compared within each part of a step only.

        ``infonce`` is the mean of the cross entropies of queries over documents and of documents over queries
        (van den Oord et al. 2018; both directions: Radford et al., ICML 2021, CLIP, Fig. 3). ``margin`` is
        the bidirectional max-margin ranking loss (Karpathy et al., NeurIPS 2014; Gabeur et al., ECCV 2020,
        MMT), averaged over wrong pairs.
        """
        documents, queries = outputs.float().chunk(2, dim=1)
        match = queries @ documents.T
        equal = (labels[:, None] == labels).any(dim=-1)  # in the diagonal, too
        if self.contrast == "margin":
            right = match.diagonal()
            short = F.relu(self.margin - right[:, None] + match) + F.relu(self.margin - right + match)
            return short.masked_fill(equal, 0).sum() / (2 * (~equal).sum().clamp(min=1))
        if self.temperature is not None:
            match = match / self.temperature
        own = torch.arange(len(labels), device=labels.device)
        match = match.masked_fill(equal.fill_diagonal_(False), -torch.inf)
        return (F.cross_entropy(match, own) + F.cross_entropy(match.T, own)) / 2

    def distillation(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return 1 minus the mean cosine between vectors and those of the teacher."""
        halves = zip(outputs.float().chunk(2, dim=1), taught.chunk(2, dim=1), strict=True)
        return 1 - torch.stack([F.cosine_similarity(own, other).mean() for own, other in halves]).mean()

    def fit_linear(
        self, features: Tensor, labels: Tensor, strength: float, start: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight (Q, F) and bias (Q,) of a ridge regression from documents to queries.

        Args:
            features: Standardized features (N, F) of the documents.
            labels: Features (N, Q) of the queries.
            strength: Weight of the penalty, above 0.
            start: Not used: the solution is exact.
        """
        from sklearn.linear_model import Ridge  # takes a while to import

        model = Ridge(strength * len(features), solver="cholesky").fit(features.numpy(), labels.numpy())
        weight = torch.from_numpy(model.coef_).view(labels.shape[1], -1)
        return weight.to(features), torch.from_numpy(model.intercept_).to(features)

    def kept(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return for each row the rank of its query's best right document, and the reverse, shape (N, 2).

        Similarities are computed in blocks, so that a split of any size takes little memory.
        """
        documents, queries = outputs.float().chunk(2, dim=1)
        (some_queries, query_of_row), (some_documents, document_of_row) = map(_distinct, labels.T)
        queries, documents = queries[some_queries], documents[some_documents]
        pairs = torch.stack([query_of_row, document_of_row], dim=1)
        forward = _ranks(queries, documents, pairs)[query_of_row]
        reverse = _ranks(documents, queries, pairs.flip(1))[document_of_row]
        return torch.stack([forward, reverse], dim=1)

    def score(self, kept: Tensor, labels: Tensor) -> dict[str, float]:
        """Return recalls and ranks in both directions, from the ranks of some rows."""
        found: dict[str, float] = {}
        for prefix, ranks in zip(("", "reverse_"), kept.double().T.numpy(), strict=True):
            found |= {f"{prefix}r_at_{k}": float((ranks <= k).mean()) for k in RECALLS}
            found[f"{prefix}median_rank"] = float(np.median(ranks))
            found[f"{prefix}mean_rank"] = float(ranks.mean())
        return found

    def answers(self, outputs: Tensor, present: Mapping[str, Tensor], top: int = 10) -> list[dict[str, Any]]:
        """Return for each sample with a query the documents of all samples that match it best.

        ``ranking`` has the numbers of their rows, from 0, and ``scores`` the cosines; both are None for a
        sample without a query. Of documents that match equally well, the first comes first. A sample has a
        document if it has any other modality.
        """
        documents, queries = (F.normalize(half, dim=1) for half in outputs.float().chunk(2, dim=1))
        nobody = torch.zeros(len(outputs), dtype=torch.bool)
        asking = present.get(self.modality, nobody).nonzero()[:, 0]
        others = [there for modality, there in present.items() if modality != self.modality]
        found = torch.stack([nobody, *others]).any(dim=0).nonzero()[:, 0]
        answers: list[dict[str, Any]] = [{"ranking": None, "scores": None} for _ in outputs]
        for block in asking.split(max(1, _AT_ONCE // max(1, len(found)))):
            match = queries[block] @ documents[found].T
            scores, places = (each[:, :top] for each in match.sort(dim=1, descending=True, stable=True))
            for row, *best in zip(block.tolist(), found[places].tolist(), scores.tolist(), strict=True):
                answers[row] = dict(zip(("ranking", "scores"), best, strict=True))
        return answers

    def row_values(self, metric: str, kept: Tensor, labels: Tensor) -> Tensor | None:
        """Return whether each row's rank is small enough, or the rank; the median is no such mean."""
        ranks = kept[:, int(metric.startswith("reverse_"))]
        what = metric.removeprefix("reverse_")
        if what == "median_rank":
            return None
        return ranks if what == "mean_rank" else (ranks <= int(what.removeprefix("r_at_"))).float()

    def resampled_values(self, metric: str, kept: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the median rank in several resamples (R,)."""
        ranks, order = kept[:, int(metric.startswith("reverse_"))].double().sort()
        passed = weights[:, order].cumsum(dim=1)
        last = passed[:, -1:] - 1
        middle = torch.cat([(last / 2).floor(), (last / 2).ceil()], dim=1)
        return ranks[torch.searchsorted(passed, middle, right=True)].mean(dim=1)

    def drawn_together(self, labels: Tensor) -> Tensor | None:
        """Return groups of pairs that share a query or a document, directly or through other pairs.

        Such pairs have a rank in common, as the captions of one picture have. If all pairs are one group,
        none can be told from another, and each is drawn on its own.
        """
        from scipy.sparse import coo_array  # takes a while to import
        from scipy.sparse.csgraph import connected_components

        (_, queries), (_, documents) = map(_distinct, labels.T)
        sizes = [int(each.max()) + 1 for each in (queries, documents)]
        edges = np.ones(len(labels)), (queries.numpy(), sizes[0] + documents.numpy())
        count, group_of = connected_components(
            coo_array(edges, shape=(sum(sizes), sum(sizes))), directed=False
        )
        return torch.from_numpy(group_of)[queries].long() if count > 1 else None

    def guess(self, labels: Tensor) -> dict[str, float]:
        """Return the expected recalls and mean rank of random orders, and the median of the expected ranks.

        Of G candidates, R are right. The best of them has the rank (G + 1) / (R + 1) on average, and it is
        among the first K with the probability 1 - C(G - R, K) / C(G, K).
        """
        from scipy.stats import hypergeom

        found: dict[str, float] = {}
        for prefix, column in ("", 0), ("reverse_", 1):
            pairs = labels.unique(dim=0)
            candidates = len(labels[:, 1 - column].unique())
            numbers, rights = pairs[:, column].unique(return_counts=True)
            right = rights[torch.searchsorted(numbers, labels[:, column].contiguous())].double().numpy()
            expected = (candidates + 1) / (right + 1)
            for k in RECALLS:
                missed = hypergeom.pmf(0, candidates, right, min(k, candidates))
                found[f"{prefix}r_at_{k}"] = float(1 - missed.mean())
            found |= {
                f"{prefix}median_rank": float(np.median(expected)),
                f"{prefix}mean_rank": float(expected.mean()),
            }
        return found

    def in_words(self) -> str:
        """Return what the query is, and how long the vectors are."""
        return f"{self.name} by {self.modality}, with vectors of {self.size} numbers"

    def summary(self) -> dict[str, Any]:
        """Return the query and the length of the vectors."""
        return {"query": self.modality, "embedding_size": self.size}


def _distinct(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row for each distinct number, and for each row the place of its number among these."""
    _, rows, places = np.unique(numbers.numpy(), return_index=True, return_inverse=True)
    return torch.from_numpy(rows), torch.from_numpy(places)


def _ranks(asking: Tensor, candidates: Tensor, pairs: Tensor) -> Tensor:
    """Return the rank of the best right candidate for each of Q vectors, shape (Q,), in float32.

    It is no number if a vector is none.

    Args:
        asking: Vectors (Q, E).
        candidates: Vectors (C, E).
        pairs: Each vector with its right candidates, of which it has one or more: numbers (P, 2).
    """
    pairs = pairs.unique(dim=0)  # sorted
    askers = pairs[:, 0].contiguous()
    ranks = []
    for block in torch.arange(len(asking)).split(max(1, _AT_ONCE // len(candidates))):
        match = asking[block] @ candidates.T
        first, last = torch.searchsorted(askers, torch.stack([block[0], block[-1] + 1])).tolist()
        rows, columns = pairs[first:last, 0] - block[0], pairs[first:last, 1]
        right = match[rows, columns]
        best = torch.full((len(block),), -torch.inf).scatter_reduce(0, rows, right, "amax")
        equal = torch.bincount(rows[right >= best[rows]], minlength=len(block))  # the best ones themselves
        ranks.append(1 + (match >= best[:, None]).sum(dim=1) - equal)
    broken = ~asking.isfinite().all(dim=1) | ~candidates.isfinite().all()
    return torch.cat(ranks).float().masked_fill(broken, torch.nan)
