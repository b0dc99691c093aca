"""Removes a search from MLflow."""

from __future__ import annotations

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from search.config.address import TrackingAddress
from search.reporting.mlflow_runs import SEARCH_ID
from search.reporting.mlflow_server import Experiment, reason
from trainables.errors import UserError


def forget(address: TrackingAddress, experiment: str, search_id: str) -> int:
    """Delete the runs of a search and its trials, and their models; return how many runs there were.

    MLflow shows what is deleted no more, and keeps it until ``mlflow gc``.

    Args:
        address: The server or database.
        experiment: Name of the experiment.
        search_id: The search's id.

    Raises:
        UserError: If MLflow does not answer, or refuses.
    """
    if address.file is not None and not address.file.exists():
        return 0
    try:
        found = Experiment.open(address.with_credentials(), experiment)
        parents = found.search_runs(f"tags.`{SEARCH_ID}` = '{search_id}'")
        runs = [*parents]
        for parent in parents:
            runs += found.search_runs(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'")
        for model in found.search_models(f"tags.`{SEARCH_ID}` = '{search_id}'"):
            found.client.delete_logged_model(model.model_id)
        for run in runs:
            found.client.delete_run(run.info.run_id)
    except UserError:
        raise
    except Exception as error:  # MLflow's are of many classes
        raise UserError(f"{address}: runs cannot be deleted ({reason(error, address)})") from error
    return len(runs)
