"""The settings of trials, data, devices and results.

This module imports nothing slow, because the command line reads all fields before it does anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from search.config.address import DEFAULT, TrackingAddress
from search.config.markers import DURATION, NAMES, SIZE, TRIALS_ONLY, Changeable, DefaultWith, named_values
from search.config.paths import (
    absolute_dataset,
    absolute_encoder,
    absolute_encoders,
    absolute_file,
    absolute_files,
)
from search.config.pooling import poolings, written_poolings
from search.config.recipes import RECIPES, PaperRecipe
from search.records.place import DEFAULT_STORAGE
from search.units import GIB
from trainables.options import LONGEST, MOST, AtLeast, AtMost, Help, Kept, MoreThan, OneOf, Settings
from trainables.plugin import Plugin
from trainables.step.recipe import TRAINING
from trainables.step.setting import SAMPLES

CHECKPOINTING = ("off", "on", "search")

_WHERE = "Where"
_ENCODER = (
    "{} encoder: the name of a bundled encoder, a name on the Hugging Face hub or a local folder. Commands "
    "that need no weights also take {}."
)


@dataclass(frozen=True, kw_only=True)
class Extensions(Settings):
    """Extensions of the program by the user."""

    plugins: Annotated[
        tuple[str, ...],
        Help(
            "Python file that registers methods, spaces or other parts of your own. The option may be "
            "repeated. With --resume, it says where the files are now.",
            metavar="FILE",
            flag="--plugin",
        ),
        Kept(absolute_files),
        Changeable(),
    ] = ()

    def load(self) -> None:
        """Run the plugins' files, unless this process has run them already.

        Raises:
            UserError: If a file cannot be loaded.
        """
        for path in self.plugins:
            Plugin.read(path).load()


@dataclass(frozen=True, kw_only=True)
class TargetSettings(Settings):
    """The GPU that memory is predicted for with ``--target cuda``."""

    panel: ClassVar[str | None] = "Trials"

    compute_capability: Annotated[
        float | None,
        Help(
            "With --target cuda, CUDA compute capability of the GPU that memory is predicted for, for "
            "example 8.6. It decides which kernels run. --precision auto depends on it, too, if a cluster "
            "starts its GPUs on demand.",
            metavar="X.Y",
            default="that of the GPUs that are there, else 8.0",
        ),
        MoreThan(0),
        AtMost(1000),
    ] = None
    context_size: Annotated[
        int | None,
        Help(
            "With --target cuda, size of the CUDA context, which each process on a GPU takes before its "
            "first tensor: some 300 MiB to 800 MiB. It is a part of the memory of a trial.",
            default="what `calibrate` has measured, else 500MiB",
            flag="--context",
        ),
        SIZE,
        AtLeast(0),
    ] = None

    def changes(self) -> dict[str, Any]:
        """Return what is given, as changes of a ``TrainingSetting``."""
        fields: dict[str, Any] = {
            "compute_capability": self.compute_capability,
            "context_bytes": self.context_size,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TrialSettings(Settings):
    """How a trial is trained, except for its optimization steps."""

    panel: ClassVar[str | None] = "Trials"

    epochs: Annotated[
        int,
        Help(
            "Number of epochs for which a trial is trained. With --strategy oneshot this is the training of "
            "finalists, which start from inherited weights.",
            metavar="N",
        ),
        AtLeast(1),
        DefaultWith("oneshot", 3),
    ] = 5
    recipe: Annotated[
        str | None,
        Help(
            "Train as a paper did. Its optimizer, batch size, schedule and so on become the defaults of "
            "their options, and its learning rate that of its method's first points. docs/recipes.md lists "
            "the values and their sources.",
            metavar="|".join(RECIPES),
            panel=TRAINING,
        ),
        OneOf(tuple(RECIPES)),
    ] = None
    gradient_checkpointing: Annotated[
        str,
        Help(
            "With on, a step keeps only the inputs of layers that the gradient passes through, and runs "
            "these layers a second time in the backward pass, which takes less memory and more time. search "
            "makes it a parameter of the space."
        ),
        OneOf(CHECKPOINTING),
    ] = "off"
    augment: Annotated[
        str,
        Help(
            "Random changes to the images of the training split. flip mirrors them, and shift-flip also "
            "moves them. rand-m9-n2 is RandAugment: 2 random operations of magnitude 9 out of 30.",
            metavar="none|flip|shift-flip|rand-mM-nN",
        ),
    ] = "none"
    feature_cache: Annotated[
        bool,
        Help("Compute the output of the frozen lower layers once, and share it between trials and epochs."),
    ] = True
    feature_cache_size: Annotated[
        int, Help("Largest size of this cache on disk."), SIZE, AtLeast(1), Changeable()
    ] = 8 * GIB

    @property
    def paper(self) -> PaperRecipe | None:
        """The paper's recipe that ``recipe`` names."""
        return RECIPES.get(self.recipe or "")

    def __post_init__(self) -> None:
        super().__post_init__()
        from trainables.data import get_augmentation

        get_augmentation(self.augment)


def _treatments() -> Iterable[str]:
    from trainables.data import MISSING

    return MISSING


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """The dataset on which trials are trained."""

    panel: ClassVar[str | None] = SAMPLES

    dataset: Annotated[
        str,
        Help(
            "Name of an included dataset, or the path of a file or folder, such as my.csv. FORMAT:PATH says "
            "its format, too.",
            metavar="NAME|PATH",
        ),
        Kept(absolute_dataset),
    ] = "openclipart"
    train_rows: Annotated[
        int | None,
        Help(
            "Number of rows of the training split that trials use. Each class has its share of them. --seed "
            "draws them, so that those of a smaller number are among those of a larger one.",
            metavar="N",
            default="all",
        ),
        AtLeast(1),
    ] = None
    text_length: Annotated[
        int | None,
        Help(
            "Number of tokens that each text is cut or padded to.",
            metavar="N",
            default="99 % of the training texts fit",
        ),
        AtLeast(1),
        AtMost(MOST),
    ] = None
    audio_seconds: Annotated[
        float | None,
        Help(
            "Length in seconds that each sound is cut or padded to.", metavar="SECONDS", default="5 seconds"
        ),
        MoreThan(0),
        AtMost(MOST),
    ] = None
    feature_length: Annotated[
        int | None,
        Help(
            "Number of vectors that each sequence of extracted features is cut or padded to; an encoder that "
            "takes fewer gets fewer.",
            metavar="N",
            default="all vectors of the training sequences fit",
        ),
        AtLeast(1),
        AtMost(MOST),
    ] = None
    modalities: Annotated[
        tuple[str, ...],
        Help("The modalities to use.", default="all of the dataset"),
        NAMES,
    ] = ()
    missing: Annotated[
        str,
        Help(
            "What becomes of rows in which a modality is missing. blank takes an empty text, an image of the "
            "mean color, silence or masked features in its place, skip leaves the rows out, and error "
            "refuses them.",
            metavar="blank|skip|error",
        ),
        OneOf(_treatments),
    ] = "blank"


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(Settings):
    """The pretrained encoders."""

    panel: ClassVar[str | None] = SAMPLES

    text_encoder: Annotated[
        str,
        Help(_ENCODER.format("Text", "arch:bert-base and arch:bert-large"), metavar="NAME|FOLDER"),
        Kept(absolute_encoder),
    ] = "minilm"
    image_encoder: Annotated[
        str,
        Help(_ENCODER.format("Image", "arch:vit-base and arch:vit-large"), metavar="NAME|FOLDER"),
        Kept(absolute_encoder),
    ] = "dinov2-small"
    encoder: Annotated[
        tuple[str, ...],
        Help(
            "Encoder of a modality, for example audio=openai/whisper-tiny. The option may be repeated. "
            "Modalities that it does not name have --text-encoder or --image-encoder if they are of that "
            "kind, and extracted features a new encoder of their size; commands without a dataset then have "
            "no others.",
            metavar="MODALITY=NAME",
        ),
        Kept(absolute_encoders),
    ] = ()
    image_size: Annotated[
        int | None,
        Help(
            "Side of the square images that the encoder sees, in pixels.",
            metavar="N",
            default="the encoder's own",
        ),
        AtLeast(1),
        AtMost(MOST),
    ] = None

    pooling: Annotated[
        tuple[str, ...],
        Help(
            "How a modality's vector is read from its encoder's tokens, for example text=mean. cls is the "
            "[CLS] token, mean the mean of the tokens, last the last one, and max the largest value of each "
            "feature. Padding and prompts are not read. The option may be repeated.",
            metavar="MODALITY=POOLING",
            default="the encoder's own",
        ),
        Kept(written_poolings),
    ] = ()

    @property
    def named(self) -> dict[str, str]:
        """Name of the encoder of each modality that ``encoder`` names."""
        return named_values("--encoder", self.encoder, "audio=openai/whisper-tiny")

    @property
    def by_kind(self) -> dict[str, str]:
        """Name of the encoder of other modalities, by kind."""
        return {"text": self.text_encoder, "image": self.image_encoder}

    @property
    def names(self) -> dict[str, str]:
        """Name of each modality's encoder where there is no dataset: the named ones, or text and image."""
        return self.named or self.by_kind

    @property
    def poolings(self) -> dict[str, str]:
        """The pooling of each modality that does not have its encoder's own."""
        return poolings(self.pooling)


@dataclass(frozen=True, kw_only=True)
class StorageSettings(Settings):
    """Where results are kept."""

    panel: ClassVar[str | None] = _WHERE

    name: Annotated[
        str | None, Help("Name of the search.", metavar="NAME", default="made from space and time")
    ] = None
    storage_path: Annotated[
        str,
        Help(
            "Folder for the results. All nodes of a cluster must see it, so there it may be an address such "
            "as s3://BUCKET/runs.",
            metavar="FOLDER",
        ),
    ] = DEFAULT_STORAGE


@dataclass(frozen=True, kw_only=True)
class TrackingSettings(Settings):
    """Where MLflow records the search."""

    panel: ClassVar[str | None] = _WHERE

    tracking_uri: Annotated[
        str | None,
        Help(
            "Address of an MLflow server or database; by default the one in MLFLOW_TRACKING_URI, if that is "
            "set. A password in it is neither stored nor shown.",
            metavar="URI",
            default=DEFAULT,
        ),
        Changeable(),
    ] = None
    experiment: Annotated[str, Help("MLflow experiment that the runs belong to.", metavar="NAME")] = (
        "paretofuse"
    )
    #: The address with its secrets; ``tracking_uri`` is the same without them.
    address: TrackingAddress = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: Any = self.tracking_uri
        if given is None:
            given = TrackingAddress.by_default()
        address = given if isinstance(given, TrackingAddress) else TrackingAddress.parse(given)
        object.__setattr__(self, "address", address)
        object.__setattr__(self, "tracking_uri", str(address))
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields to store by name, without secrets."""
        return {"tracking_uri": self.tracking_uri, "experiment": self.experiment}


@dataclass(frozen=True, kw_only=True)
class BackendSettings(Settings):
    """Where trials run: on a Ray cluster, or from a table of recorded trials."""

    panel: ClassVar[str | None] = _WHERE

    address: Annotated[
        str | None,
        Help(
            "Ray cluster to join: its address, or auto on one of its nodes.",
            metavar="ADDRESS",
            default="start Ray on this machine",
        ),
        Changeable(),
    ] = None
    replay: Annotated[
        str | None,
        Help(
            "Take the results of trials from a table of recorded trials instead of training. This is for "
            "trying out samplers and schedulers.",
            metavar="FILE",
        ),
        Kept(absolute_file),
        TRIALS_ONLY,
    ] = None
    replay_seconds: Annotated[
        float,
        Help("With --replay, time in seconds that an epoch takes.", metavar="SECONDS"),
        AtLeast(0),
        AtMost(LONGEST),
        Changeable(),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class PlacementSettings(Settings):
    """The share of a device that a trial gets, and when a trial counts as failed."""

    panel: ClassVar[str | None] = _WHERE

    max_concurrent: Annotated[
        int | None,
        Help("Largest number of trials at once.", metavar="N", default="as many as fit"),
        AtLeast(1),
        Changeable(),
    ] = None
    gpus_per_trial: Annotated[
        float | None,
        Help(
            "Share of a GPU that every trial gets; 0 trains on CPUs. Give this option, or --gpu-memory, on a "
            "cluster that starts its GPU nodes on demand.",
            metavar="SHARE",
            default="what the trial's memory needs",
        ),
        AtLeast(0),
        AtMost(1),
        Changeable(),
    ] = None
    gpu_memory: Annotated[
        int | None,
        Help("Memory of each GPU.", default="what the GPUs report"),
        SIZE,
        AtLeast(1),
        Changeable(),
    ] = None
    packing: Annotated[
        bool,
        Help("Let trials share a GPU, or the memory of a node, by their predicted memory."),
        Changeable(),
    ] = True
    max_failures: Annotated[
        int,
        Help(
            "Number of times that a trial which died or hung is started again from its last checkpoint. The "
            "same holds for a supernet's training and the evaluation of subnets.",
            metavar="N",
        ),
        AtLeast(0),
        Changeable(),
    ] = 2
    hang_timeout: Annotated[
        float,
        Help(
            "A worker that makes no progress for this time counts as hung, and is replaced. Each step, each "
            "batch and each part of building a model is progress."
        ),
        DURATION,
        MoreThan(0),
        AtMost(LONGEST),
        Changeable(),
    ] = 900
