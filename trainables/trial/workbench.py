"""What the trials of a search have in common, and its data and encoders as a process has them open."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch

from trainables.cache import cache_dir
from trainables.data import (
    FeatureCache,
    Loader,
    PreparedData,
    get_augmentation,
    open_dataset,
    prepare,
)
from trainables.errors import UserError
from trainables.methods import FusionMethod, MethodContext
from trainables.plugin import Plugin
from trainables.step.setting import TrainingSetting
from trainables.towers import Tower, load_tower, resolve_encoder
from trainables.units import GIB


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of a search have in common.

    Attributes:
        dataset: Name or folder.
        prepared: Key of the prepared data.
        encoders: Encoder name of each modality.
        fingerprints: Content hash of each encoder.
        setting: How a step is run.
        epochs: Epochs a trial trains.
        augment: Name of the image augmentation.
        feature_cache: Most bytes of cached prefix outputs; 0 runs the prefix in every step.
        prefixes: For each modality, the numbers of frozen layers whose output trials may ask for.
        hang_timeout: Seconds after which a worker ends itself that finishes no step and no validation batch.
        plugins: Files with methods of the user's own.
    """

    dataset: str
    prepared: str
    encoders: dict[str, str]
    fingerprints: dict[str, str]
    setting: TrainingSetting
    epochs: int
    augment: str = "none"
    feature_cache: int = 8 * GIB
    prefixes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    hang_timeout: float = 900.0
    plugins: tuple[Plugin, ...] = ()


class Workbench:
    """A spec's data and encoders, opened in this process; its plugins are loaded.

    Args:
        spec: What all trials share.
        device: Where they run.
        threads: CPU threads that this process uses from now on.

    Attributes:
        data: The prepared dataset.
    """

    def __init__(self, spec: TrialSpec, device: torch.device, threads: int = 1) -> None:
        for plugin in spec.plugins:
            plugin.load()
        torch.set_num_threads(threads)
        self.spec = spec
        self.device = device
        self.data = _open_prepared(spec)

    def context(self, setting: TrainingSetting) -> MethodContext:
        """Return what a method is built over; encoders are loaded once a process."""
        towers = {
            modality: shared_tower(modality, source, setting.attention)
            for modality, source in self.spec.encoders.items()
        }
        return setting.context(towers, self.data.task.output_size)

    def loader(
        self, split: str, method: FusionMethod, setting: TrainingSetting, batch_size: int | None = None
    ) -> Loader:
        """Return a split's batches, with the frozen prefix's cached output where a method has one.

        Args:
            split: ``train``, ``validation`` or ``test``.
            method: The method, for its modalities and its prefix.
            setting: How steps are run.
            batch_size: Rows a batch; None takes the setting's.

        Raises:
            UserError: If the cache lacks the room for what the setting wants from there.
        """
        spec = self.spec
        features = {}
        if setting.prefix != "computed":
            cache = FeatureCache(spec.feature_cache)
            for modality, layer in method.prefix_layers().items():
                found = cache.features(
                    self.data,
                    split,
                    method.tower(modality),
                    layer,
                    setting,
                    encoder=spec.fingerprints[modality],
                    device=self.device,
                    others=spec.prefixes.get(modality, ()),
                )
                if found is not None:
                    features[modality] = found
                elif spec.setting.prefix != "computed":
                    raise UserError(
                        f"--prefix {spec.setting.prefix}: the {modality} features of the {split} split "
                        f"do not fit into the cache of {spec.feature_cache / GIB:.1f} GiB; see "
                        "--feature-cache-size"
                    )
        if setting.prefix == "offloaded":
            for module in method.prefix_modules():
                module.to("cpu")  # computing features has brought it to the device
        return Loader(
            self.data.split(split),
            method.modalities,
            batch_size or setting.batch_size,
            self.device,
            features,
            get_augmentation(spec.augment) if split == "train" else None,
        )


@cache
def shared_tower(modality: str, source: str, attention: str) -> Tower:
    """Return an encoder, which is loaded once a process."""
    return load_tower(resolve_encoder(modality, source), attention=attention)


def default_device() -> str:
    """Return the kind of device that there is."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fast_precision(device: torch.device) -> str:
    """Return the precision that a device computes fastest in: bf16 where it is native, else fp32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def _open_prepared(spec: TrialSpec) -> PreparedData:
    folder = cache_dir() / "prepared" / spec.prepared
    if folder.exists():
        return PreparedData(folder)
    # The first trial on another node than the one the search was started on.
    encoders = {modality: resolve_encoder(modality, name) for modality, name in spec.encoders.items()}
    return prepare(
        open_dataset(spec.dataset),
        encoders,
        text_length=spec.setting.text_length,
        image_size=spec.setting.image_size,
    )
