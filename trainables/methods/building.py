"""Builds methods over towers, with a query beside them if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables.errors import UserError
from trainables.methods.base import FusionMethod, MethodContext, get_method
from trainables.methods.config import MethodConfig
from trainables.methods.queried import Queried


def build_method(
    name: str,
    config: Mapping[str, Any] | MethodConfig,
    context: MethodContext,
) -> FusionMethod:
    """Build a registered method over towers.

    Args:
        name: Name of a registered method.
        config: The method's configuration, or the values that differ from the defaults.
        context: Towers, output size and further settings.

    Raises:
        UserError: If the method does not exist, or the configuration does not fit the method or the towers.
    """
    spec = get_method(name)
    if not isinstance(config, MethodConfig):
        config = spec.config_class.from_dict(config)
    return build(spec.method, config, context)


def build(method: type[FusionMethod], config: MethodConfig, context: MethodContext) -> FusionMethod:
    """Build a method over towers. If the context has a query, the method fuses the other modalities.

    Args:
        method: The method's class, which need not be registered.
        config: The method's configuration.
        context: Towers, output size and further settings.

    Raises:
        UserError: If the configuration does not fit the method or the towers.
    """
    query = context.query
    if query is None:
        return method(context, config)
    documents = {m: tower for m, tower in context.towers.items() if m != query.modality}
    if documents.keys() == context.towers.keys():
        raise UserError(f"--query {query.modality}: must be {' or '.join(context.towers)}")
    size = context.output_size // 2
    return Queried(method(replace(context, towers=documents, output_size=size, query=None), config), context)
