"""What one trial does, in plain PyTorch: encoders as towers, fusion methods, data, prediction and training.

The public names are those that these subpackages export: ``towers``, ``methods``, ``tasks``, ``step``,
``data``, ``memory``, ``model``, ``trial``, ``supernet`` and ``testing``. Other modules may change.
``load_model`` is here as well::

    from trainables import load_model

    model = load_model("model")
    model.predict([{"text": "a red square", "image": "square.png"}])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.model import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that importing a module of this package loads nothing else."""
    if name in __all__:
        import trainables.model

        return getattr(trainables.model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
