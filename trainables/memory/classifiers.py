"""The memory of training a single classifier of transformers, of which only the configuration is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.memory.estimating import estimate
from trainables.memory.report import MemoryReport
from trainables.step.setting import TrainingSetting
from trainables.towers import most_tokens, read_config, usual_image_size


@dataclass(frozen=True)
class Classifier:
    """A model of transformers with a head for classification; all of it trains.

    Attributes:
        name: The name that the user wrote.
        config: The Hugging Face configuration.
        classes: Number of classes.
    """

    name: str
    config: Any
    classes: int

    @classmethod
    def resolve(cls, name: str, classes: int) -> Classifier:
        """Return the classifier of a name; see ``read_config``.

        Raises:
            UserError: If there is no such model, or it has no head for the classification of texts or images.
        """
        from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING as OF_IMAGES
        from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as OF_TEXTS

        config, _ = read_config(name)
        if type(config) not in OF_IMAGES and type(config) not in OF_TEXTS:
            raise UserError(
                f"model '{name}': transformers has no classifier of texts or images of the family "
                f"'{config.model_type}'"
            )
        return cls(name, config, classes)

    @cached_property
    def of_images(self) -> bool:
        """Whether it classifies images, and not texts."""
        from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

        return type(self.config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    @property
    def image_size(self) -> int:
        """Default side of the square image in pixels."""
        return usual_image_size(self._of_inputs(self.config))

    def memory(self, setting: TrainingSetting) -> MemoryReport:
        """Return the memory of a training step.

        Args:
            setting: Sizes of the batch and how the step is run.

        Raises:
            UserError: If the model cannot be built or run in this setting.
        """
        most = None if self.of_images else most_tokens(self.config)
        if most is not None and setting.text_length > most:
            raise UserError(
                f"--text-length {setting.text_length}: model '{self.name}' takes at most {most} tokens"
            )
        try:
            return estimate(
                lambda: self._built(setting),
                self._batch(setting),
                None,
                lambda parameters: setting.optimizer_of(parameters, 0.0),
                target=setting.target,
                precision=setting.precision,
                gradient_accumulation=setting.gradient_accumulation > 1,
                compute_capability=setting.compute_capability,
                expandable_segments=setting.expandable_segments,
                context=setting.context_bytes,
            )
        except UserError:
            raise
        except Exception as error:  # what a configuration's values lead to has no class in common
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"model '{self.name}': cannot be run ({reason:.160})") from error

    def _built(self, setting: TrainingSetting) -> nn.Module:
        from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

        config = copy.deepcopy(self.config)
        config.num_labels = self.classes
        config.problem_type = "single_label_classification"
        if setting.gradient_checkpointing:
            config.use_cache = False  # which goes without saying, but not without a warning
        if setting.image_size != self.image_size:
            self._of_inputs(config).image_size = setting.image_size
        if not self.of_images and config.pad_token_id is None:
            config.pad_token_id = 0  # without one, decoders take no batch
        kind = AutoModelForImageClassification if self.of_images else AutoModelForSequenceClassification
        model = kind.from_config(config, attn_implementation=setting.attention)
        if setting.gradient_checkpointing:
            model.activation_checkpointing_enable()
        return model

    def _batch(self, setting: TrainingSetting) -> dict[str, Tensor]:
        rows = setting.batch_size // setting.gradient_accumulation
        with torch.device("meta"):
            labels = torch.empty(rows, dtype=torch.long)
            if self.of_images:
                channels = getattr(self._of_inputs(self.config), "num_channels", 3)
                side = setting.image_size
                return {"pixel_values": torch.empty(rows, channels, side, side), "labels": labels}
            ids = torch.empty(rows, setting.text_length, dtype=torch.long)
            return {"input_ids": ids, "attention_mask": torch.empty_like(ids), "labels": labels}

    def _of_inputs(self, config: Any) -> Any:
        """Return the part of a configuration that states the sizes of inputs."""
        return getattr(config, "vision_config", config) if self.of_images else config
