"""The search that ``search_overhead.py`` compares with ``plain_search.py``, for the same trials.

Every option that decides what is trained, how and where, has the plain script's value. There is no probe and
no table of results without a modality, as the plain script has none. All others have their defaults. The
cache is where ``PARETOFUSE_CACHE`` says: a second search finds what the first one has left there.

    python benchmarks/our_search.py --out FILE [--precision fp32]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from plain_search import BATCH, CONFIGS, IMAGE_SIZE, SEED, TEXT_LENGTH

from search import SearchConfig, run_search
from search.records.history import TrialRecord, canonical
from search.records.store import SearchStore
from spaces import Space, register_space


def space(configs: int) -> Space:
    """Return the space of the first configurations, each of which is a first point."""
    return Space(
        "same_trials",
        "the configurations of this benchmark",
        lambda trial, _: dict(CONFIGS[trial.suggest_categorical("index", list(range(configs)))]),
        lambda _: [{"index": index} for index in range(configs)],
    )


def search(configs: int, storage: str, **settings: Any) -> dict[str, Any]:
    """Search; return the results by configuration and the seconds of each part.

    Args:
        configs: Number of configurations.
        storage: Folder for the results.
        **settings: Further settings of the search.
    """
    register_space(space(configs))
    started = time.perf_counter()
    result = run_search(
        SearchConfig(
            space="same_trials",
            num_samples=configs,
            batch_size=BATCH,
            text_length=TEXT_LENGTH,
            image_size=IMAGE_SIZE,
            seed=SEED,
            head_start="random",
            warm_up=0.0,
            keep="last",
            probe=False,
            robustness=False,
            gpus_per_trial=0,
            name="ours",
            storage_path=storage,
            **settings,
        )
    )
    ended = time.perf_counter()
    store = SearchStore.read(Path(result.folder))
    trials = {record.key: record for record in (TrialRecord.from_dict(*trial) for trial in store.trials())}
    store.close()
    ordered = [trials[canonical(config)] for config in CONFIGS[:configs]]
    checkpoint = next(record.checkpoint for record in ordered if record.checkpoint)
    trained = json.loads(Path(result.folder, checkpoint, "trial.json").read_text())
    return {
        "accuracies": [record.values["accuracy"] for record in ordered],
        "epochs": [len(record.epochs) for record in ordered],
        "setting": trained["spec"]["setting"],
        "seconds": {**result.seconds, "end of Ray": ended - started - sum(result.seconds.values())},
    }


def main() -> None:
    """Search, and write the results to a file."""
    began = time.time()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", help="by default that of a search")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--configs", type=int, default=len(CONFIGS), help="the first ones of CONFIGS")
    parser.add_argument("--dataset", default="openclipart")
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--image-encoder", default="dinov2-small")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    given = {} if options.precision is None else {"precision": options.precision}
    with tempfile.TemporaryDirectory() as folder:
        results = search(
            options.configs,
            folder,
            epochs=options.epochs,
            dataset=options.dataset,
            text_encoder=options.text_encoder,
            image_encoder=options.image_encoder,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            **given,
        )
    options.out.write_text(json.dumps({"began": began, **results, "ended": time.time()}))


if __name__ == "__main__":
    main()
