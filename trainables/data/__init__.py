"""Datasets, which are opened from Parquet files, prepared once and loaded in batches."""

from trainables.data.augment import AUGMENTATIONS, get_augmentation
from trainables.data.columns import Modality
from trainables.data.converting import convert
from trainables.data.described import in_words, missing_shares, warnings_on
from trainables.data.features import EncodedSplit, FeatureCache, NoRoomError, PrefixFeatures
from trainables.data.few import Few
from trainables.data.included import DATASETS, address_of, open_dataset
from trainables.data.kinds import KINDS
from trainables.data.loader import Batch, Loader
from trainables.data.matching import matched
from trainables.data.missing import MISSING, bad_rows_as, without_missing
from trainables.data.prepared import PreparedData, prepare
from trainables.data.readers import READERS
from trainables.data.sizes import default_encoders, input_sizes
from trainables.data.source import Dataset
from trainables.data.splits import SPLITS

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "KINDS",
    "MISSING",
    "READERS",
    "SPLITS",
    "Batch",
    "Dataset",
    "EncodedSplit",
    "FeatureCache",
    "Few",
    "Loader",
    "Modality",
    "NoRoomError",
    "PrefixFeatures",
    "PreparedData",
    "address_of",
    "bad_rows_as",
    "convert",
    "default_encoders",
    "get_augmentation",
    "in_words",
    "input_sizes",
    "matched",
    "missing_shares",
    "open_dataset",
    "prepare",
    "warnings_on",
    "without_missing",
]
