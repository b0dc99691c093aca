"""Datasets by their name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from trainables.data.readers.base import Found, Reader, register_reader
from trainables.data.readers.hub import has_tables, read_repository
from trainables.errors import UserError
from trainables.reading_settings import ReadingSettings
from trainables.towers.hub import hub_reachable

#: The files that are fetched, and where the hub keeps each dataset as Parquet files.
_TABLES = ("README.md", "*.parquet", "*.csv", "*.tsv", "*.jsonl", "*.tar")
_CONVERTED = "refs/convert/parquet"


@register_reader
class HubName(Reader):
    """``hf:OWNER/NAME`` or ``hf:OWNER/NAME/CONFIGURATION``.

    The repository's tables are fetched into the Hugging Face cache, or else the Parquet files into which the
    hub converts other datasets. Without network, what is in that cache is read.
    """

    name = "hf"
    description = "dataset of the Hugging Face hub by its name: hf:OWNER/NAME or hf:OWNER/NAME/CONFIGURATION"
    of_paths = False

    def read(self, name: str, path: Path, settings: ReadingSettings) -> Found:
        """Return the rows of the only, the default or the named configuration."""
        repository, config = "/".join(path.parts[:2]), "/".join(path.parts[2:]) or None
        folder = _fetched(name, repository, None)
        if not has_tables(folder):
            folder = _fetched(name, repository, _CONVERTED)
        return read_repository(name, folder, settings, config, by_name=True)


def _fetched(name: str, repository: str, revision: str | None) -> Path:
    """Return the folder with a repository's tables, which are fetched if need be.

    Raises:
        UserError: If the hub does not answer and they are not in the cache, or there is no such dataset.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    where = f"dataset '{name}'"
    offline = not hub_reachable()  # asked first, as the library would retry for long
    try:
        fetched = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(_TABLES),
            local_files_only=offline,
        )
    except HFValidationError as error:
        raise UserError(f"{where}: write hf:OWNER/NAME, or a path without hf:") from error
    except GatedRepoError as error:
        raise UserError(
            f"{where}: its owner asks you to log in and accept terms, at https://huggingface.co/datasets/"
            f"{repository}"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"{where}: the hub has no dataset {repository} that you may read") from error
    except LocalEntryNotFoundError as error:
        reason = "the Hugging Face hub cannot be reached from here" if offline else "it cannot be fetched"
        raise UserError(f"{where}: {reason}, and {repository} is not in its cache") from error
    except Exception as error:  # network, disk: what the library raises has no class in common
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where}: {repository} cannot be fetched ({reason})") from error
    return Path(fetched)
