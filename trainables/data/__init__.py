"""Datasets, which are opened from Parquet files, prepared once and loaded in batches."""

from trainables.data.augment import AUGMENTATIONS, get_augmentation
from trainables.data.features import FeatureCache, NoRoomError, PrefixFeatures
from trainables.data.included import DATASETS, open_dataset
from trainables.data.loader import Batch, Loader
from trainables.data.matching import matched
from trainables.data.prepared import PreparedData, prepare, typical_text_length
from trainables.data.rows import SPLITS
from trainables.data.source import Dataset

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "SPLITS",
    "Batch",
    "Dataset",
    "FeatureCache",
    "Loader",
    "NoRoomError",
    "PrefixFeatures",
    "PreparedData",
    "get_augmentation",
    "matched",
    "open_dataset",
    "prepare",
    "typical_text_length",
]
