"""How one optimisation step is run, for training as for memory prediction."""

from trainables.step.setting import TrainingSetting
from trainables.step.training import forward_loss, training_step

__all__ = ["TrainingSetting", "forward_loss", "training_step"]
