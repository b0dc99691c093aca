"""What a dataset is understood to be: found in one pass over its rows, without preparing it."""

from trainables.data.understood.document import Column, Labels, Tokens, Understood
from trainables.data.understood.examples import Example, examples
from trainables.data.understood.survey import Progress, understand

__all__ = [
    "Column",
    "Example",
    "Labels",
    "Progress",
    "Tokens",
    "Understood",
    "examples",
    "understand",
]
