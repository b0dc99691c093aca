"""One-shot search: one supernet is trained, its subnets are searched, the best are trained on their own."""

from search.oneshot.strategy import OneShot

__all__ = ["OneShot"]
