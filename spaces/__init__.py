"""What is explored: one file a space; importing this package fills the registry."""

from spaces import baselines, pmf_nas  # noqa: F401
from spaces.base import SPACES, Space, SpaceContext, Trial, get_space, register_space

__all__ = ["SPACES", "Space", "SpaceContext", "Trial", "get_space", "register_space"]
