"""The probes of a search, on the data and encoders of its trials."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data import SPLITS, FeatureCache
from trainables.data.cells import BLANK
from trainables.probe import Prober, Probes, own_features, pooled_features, reading_of
from trainables.progress import Tick, no_tick
from trainables.step.precision import default_device
from trainables.trial.workbench import TrialSpec, Workbench


def run_probes(spec: TrialSpec, threads: int = 1, tick: Tick = no_tick) -> Probes:
    """Fit all probes of a search; see ``trainables.probe``.

    Args:
        spec: Settings that all trials share.
        threads: Number of CPU threads.
        tick: Called as work proceeds.
    """
    device = torch.device(default_device())
    bench = Workbench(spec, device, threads, tick)
    context = bench.context(spec.setting)
    towers = {m: tower.fork(matrices=context.frozen_matrices) for m, tower in context.towers.items()}

    def reading(split: str, modality: str, cells: Tensor | None = None) -> dict[str, Tensor]:
        if not towers[modality].pretrained:
            return own_features(bench.data, split, modality, cells)
        of = bench.encoded(split, towers[modality], spec.setting)
        cache = FeatureCache(spec.feature_cache) if spec.feature_cache else None
        return pooled_features(of, cache, needed=spec.prefixes.get(modality, ()), cells=cells, tick=tick)

    splits = [split for split in SPLITS if bench.data.has_labels(split)]
    readings = {split: {modality: reading(split, modality) for modality in towers} for split in splits}
    blanks = None
    if spec.robustness and len(bench.fused) > 1 and "test" in splits:
        blanks = {modality: reading("test", modality, torch.tensor([BLANK])) for modality in bench.fused}
    labels = {split: bench.data.split(split).labels for split in splits}
    poolings = {m: reading_of(tower) for m, tower in towers.items()}
    query, queries = bench.task.query, None
    if query is not None:
        pooling = poolings.pop(query.modality)
        queries = {split: read.pop(query.modality)[pooling] for split, read in readings.items()}
    return Prober(bench.task, readings, labels, blanks, tick, queries).probes(poolings)
