"""Builds a model's module from its description: encoders, the method over them, and trained weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainables.configuration import split_config
from trainables.errors import UserError
from trainables.methods import FusionMethod, build_method
from trainables.model.description import WEIGHTS, ModelDescription, poolings_of
from trainables.model.encoders import check_same, find_encoder
from trainables.model.folder import check_weights
from trainables.plugin import Plugin
from trainables.probe import ProbeNetwork
from trainables.step import TrainingSetting
from trainables.tasks import Task, read_task
from trainables.towers import Tower, load_tower

#: What computes a model's outputs.
Network = FusionMethod | ProbeNetwork


class Parts:
    """What a model is made of, looked up by its description; its plugins are loaded first.

    Args:
        description: The model.
        folder: Its folder.

    Attributes:
        setting: The setting with which it was trained.
        task: The task, as it was tuned.
        sources: The encoder of each modality of the search.
        modalities: The modalities that it reads, in order.

    Raises:
        UserError: If a plugin, method, task or encoder is not there.
    """

    def __init__(self, description: ModelDescription, folder: Path) -> None:
        self._description = description
        self._folder = folder
        for name in description.plugins:
            Plugin.read(folder / name).load()
        try:
            self.setting = TrainingSetting(**description.setting)
            self.task: Task = read_task(description.task)
        except (KeyError, TypeError) as error:
            raise UserError(f"model '{folder}': its description is damaged ({error})") from error
        self.sources = {
            modality: find_encoder(description, modality, folder) for modality in description.inputs
        }
        with torch.device("meta"):
            self._blank = {
                modality: load_tower(source, attention=self.setting.attention, weights=False)
                for modality, source in self.sources.items()
            }
            self.modalities = self._network(self._blank).modalities

    def build(self) -> Network:
        """Return the method, or the probe, with its trained weights, in evaluation mode.

        Encoders that it does not read have no weights.

        Raises:
            UserError: If an encoder is another one, or if weights are damaged or do not fit.
        """
        towers: dict[str, Tower] = {}
        for modality, source in self.sources.items():
            towers[modality] = self._blank[modality]
            if modality in self.modalities:
                check_same(self._description, modality, self._folder, source)
                towers[modality] = load_tower(source, attention=self.setting.attention)
        network = self._network(towers)
        check_weights(self._folder)
        try:
            network.load_trainable_state_dict(load_file(self._folder / WEIGHTS))
        except (UserError, RuntimeError, OSError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"model '{self._folder}': its {WEIGHTS} cannot be loaded ({reason})") from error
        return network.eval()

    def _network(self, towers: dict[str, Tower]) -> Network:
        context = self.setting.context(towers, self.task.output_size, self.task.query)
        configuration = self._description.configuration
        if poolings := poolings_of(configuration):
            return ProbeNetwork(context, poolings, self.setting)
        name, fields = split_config(configuration)
        return build_method(name, fields, context)
