"""What one trial does, in plain PyTorch: encoders as towers, fusion methods, data, prediction and training.

A package exports its public names: ``trainables.towers``, ``methods``, ``tasks``, ``step``, ``data``,
``memory``, ``trial``, ``supernet`` and ``testing``. Other modules may change.
"""
