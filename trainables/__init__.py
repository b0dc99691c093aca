"""What one trial does, in plain PyTorch: encoders as towers, fusion methods, data, prediction and training.

The public names are those that these subpackages export: ``towers``, ``methods``, ``tasks``, ``step``,
``data``, ``memory``, ``trial``, ``supernet`` and ``testing``. Other modules may change.
"""
