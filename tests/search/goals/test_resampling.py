"""Metrics of made-up outputs in resamples of the rows."""

from __future__ import annotations

import pytest
import torch

from search.goals.luck import RESAMPLES, RESCORED
from search.goals.resampling import resampled
from tests.search.made_up import LABELS, ROWS, outputs_of
from tests.tasks import classification
from trainables.tasks import get_task


def test_a_mean_over_rows_and_what_is_scored_again() -> None:
    task, labels = classification(2), LABELS["validation"]
    models = [(task, torch.from_numpy(outputs_of(share)).float()) for share in (0.7, 0.8)]
    for metric, resamples in (("accuracy", RESAMPLES), ("macro_f1", RESCORED)):
        values, drawn = resampled(metric, models, labels)
        assert values == pytest.approx([task.value(metric, kept, labels) for _, kept in models])
        assert drawn.shape == (2, resamples)
        assert drawn.mean(axis=1) == pytest.approx(values, abs=0.01)
    assert (drawn[0] < drawn[1]).all(), "the same rows are drawn for all"


@pytest.mark.parametrize("metric", ["reverse_r_at_1", "reverse_median_rank"])
def test_captions_of_one_picture_are_drawn_together(metric) -> None:
    """Each of 100 documents has four captions, whose rows all have the document's rank."""
    task = get_task("retrieval").of_size(8)
    documents = torch.arange(100)
    ranks = 1 + torch.randint(4, (100,), generator=torch.Generator().manual_seed(0)).float()
    alone = torch.stack([documents, documents], dim=1), torch.stack([ranks, ranks], dim=1)
    captions = torch.stack([torch.arange(ROWS), documents.repeat_interleave(4)], dim=1)
    copied = captions, alone[1].repeat_interleave(4, dim=0)
    one, four = (resampled(metric, [(task, kept)], labels) for labels, kept in (alone, copied))
    assert four[0] == pytest.approx(one[0])
    assert four[1] == pytest.approx(one[1])


def test_pairs_that_share_a_query_or_a_document_are_one_group() -> None:
    task = get_task("retrieval").of_size(8)
    pairs = torch.tensor([[5, 0], [5, 1], [6, 1], [7, 2], [8, 2], [9, 3]])
    groups = task.drawn_together(pairs)
    assert groups is not None
    assert groups.tolist() == [0, 0, 0, 1, 1, 2]
    assert task.drawn_together(pairs[:3]) is None, "nothing would be left to draw"
    assert classification(2).drawn_together(LABELS["test"]) is None
