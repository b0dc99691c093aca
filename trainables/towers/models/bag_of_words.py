"""The word embeddings of a text encoder, without the encoder."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_outputs import BaseModelOutput

from trainables.towers.models.configuration import BagOfWordsConfig


class BagOfWordsModel(nn.Module):
    """A table of word embeddings."""

    config_class = BagOfWordsConfig

    def __init__(self, config: BagOfWordsConfig, word_embeddings: nn.Embedding | None = None) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = word_embeddings or nn.Embedding(config.vocab_size, config.hidden_size)

    @classmethod
    def from_pretrained(
        cls, location: str, *, config: BagOfWordsConfig, **options: Any
    ) -> tuple[Self, dict[str, Any]]:
        """Load the word embeddings of the text encoder at ``location``.

        Args:
            location: Folder or hub name of the encoder.
            config: The configuration of the word embeddings.
            **options: Further arguments of ``AutoModel.from_pretrained``.

        Returns:
            The table, and the library's report on how the encoder's file fits: whether the table is in it.
        """
        model, report = AutoModel.from_pretrained(location, trust_remote_code=False, **options)
        encoder = getattr(model, "text_model", model)  # a CLIP folder holds two encoders
        table = encoder.get_input_embeddings()
        theirs = next(name for name, parameter in model.named_parameters() if parameter is table.weight)
        ours = "word_embeddings.weight"
        own = {
            **report,
            "missing_keys": {ours} if theirs in report["missing_keys"] else set(),
            "mismatched_keys": {
                (ours, *sizes) for name, *sizes in report["mismatched_keys"] if name == theirs
            },
        }
        return cls(config, table), own

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        """Return the embeddings (B, T, D) of the tokens (B, T) as ``last_hidden_state``."""
        return BaseModelOutput(last_hidden_state=self.word_embeddings(input_ids))
