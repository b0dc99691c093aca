"""The command ``train``: one configuration, without a search."""

from __future__ import annotations

from search.cli.defaults import settings_of
from search.cli.options import Given, Output, takes
from search.cli.printing import stdout_kept_for_json
from search.cli.results import blot_secrets, conclude
from search.cli.waiting import waiting
from search.config import ConfigurationSettings, SearchConfig
from search.config.exploring import OF_SEARCHES
from search.invocation import program
from trainables.errors import UserError
from trainables.options import Settings

#: All settings, those of the configuration first.
_BLOCKS: dict[type[Settings], None] = dict.fromkeys((ConfigurationSettings, *SearchConfig.blocks().values()))


@takes(Output, *_BLOCKS, without=OF_SEARCHES, panels={"Search": "Configuration"})
def train(given: Given) -> None:
    """Train one configuration of a method, with one or several seeds.

    Settings that are not given have their values in the --recipe, or else in the first point of the method's
    space, which is the paper's: `python search.py train --method pmf --set prompt_length=8 --seeds 3`.

    It is a search of a space of one. The result, the checkpoints and the run in MLflow are where those of a
    search are. The test split is scored once, at the end. `python search.py --resume NAME` goes on with a
    training that was interrupted. A method that trains whole encoders leaves them in runs/NAME/encoders, from
    where --text-encoder and --image-encoder take them.
    """
    as_json = given.make(Output).as_json
    values = settings_of(given)
    if "method" not in values:
        raise UserError(f"--method is missing; `{program()} methods` lists the methods")
    blot_secrets(values)
    with waiting("loading PyTorch, Ray and MLflow"):
        config = SearchConfig.of_training(**values)
        config.load()
        config.check()  # before the slow imports
        from search.api import run_search

    with stdout_kept_for_json(as_json):
        result = run_search(config)
    conclude(result, as_json=as_json)
