"""The settings of a search, for the command line and for the Python API."""

from search.config.blocks import (
    BackendSettings,
    DataSettings,
    EncoderSettings,
    Extensions,
    PlacementSettings,
    StorageSettings,
    TargetSettings,
    TrackingSettings,
    TrialSettings,
)
from search.config.config import SearchConfig, more_samples
from search.config.exploring import ConfigurationSettings, OneShotSettings, SearchSettings
from search.config.markers import STRATEGIES

__all__ = [
    "STRATEGIES",
    "BackendSettings",
    "ConfigurationSettings",
    "DataSettings",
    "EncoderSettings",
    "Extensions",
    "OneShotSettings",
    "PlacementSettings",
    "SearchConfig",
    "SearchSettings",
    "StorageSettings",
    "TargetSettings",
    "TrackingSettings",
    "TrialSettings",
    "more_samples",
]
