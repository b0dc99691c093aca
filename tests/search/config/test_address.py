"""Addresses of MLflow: what they mean, and that their secrets get nowhere."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from search import SearchConfig
from search.config.address import TrackingAddress
from trainables.errors import UserError

SECRET = "gehe/im@1"
WRITTEN = "gehe%2Fim%401"
WITH_SECRETS = {
    f"http://me:{WRITTEN}@host:5000/mlflow": "http://me:***@host:5000/mlflow",
    f"https://:{WRITTEN}@host": "https://:***@host",
    f"https://host?token={WRITTEN}&x=1": "https://host?token=***&x=1",
    f"postgresql://me:{WRITTEN}@host/db?sslmode=require": "postgresql://me:***@host/db?sslmode=require",
    f"mysql+pymysql://me:{WRITTEN}@host:3306/db": "mysql+pymysql://me:***@host:3306/db",
    f"postgresql://host/db?password={WRITTEN}": "postgresql://host/db?password=***",
    f"mssql+pyodbc:///?odbc_connect=PWD%3D{WRITTEN}": "mssql+pyodbc:///?odbc_connect=***",
}


@pytest.fixture(autouse=True)
def environment(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to work in, and no variables of MLflow."""
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


def config(**given: object) -> SearchConfig:
    return SearchConfig(space="pmf_nas", **given)


def stored_again(settings: SearchConfig) -> SearchConfig:
    return SearchConfig.from_json(settings.to_json())


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_a_secret_is_in_no_text_and_in_no_copy(text) -> None:
    settings = config(tracking_uri=text)
    address = settings.tracking.address
    assert str(address) == settings.tracking.tracking_uri == WITH_SECRETS[text]
    texts = [settings.to_json(), repr(settings), repr(address), str(settings.to_dict())]
    copies = [pickle.dumps(settings), pickle.dumps(address)]
    texts += [str(vars(copy.deepcopy(address))), str(dataclasses.asdict(settings))]
    assert not [text for text in texts if SECRET in text or WRITTEN in text]
    assert not [copied for copied in copies if SECRET.encode() in copied or WRITTEN.encode() in copied]
    assert SECRET in str(address.secrets)
    assert settings.replace(num_samples=3).tracking.address.full == address.full
    assert stored_again(settings).tracking.tracking_uri == WITH_SECRETS[text]


@pytest.mark.parametrize("text", WITH_SECRETS)
def test_errors_of_others_are_masked(text) -> None:
    address = TrackingAddress.parse(text)
    for secret in address.secrets:
        assert secret not in address.masked(f"cannot log in to {text} or {address.full} with {secret}!")


def test_a_text_that_holds_no_secret_is_shown_whole() -> None:
    for text in ("http://host", "databricks://profile", "mlruns", "ftp://here", "postgresql://me@host/db"):
        address = TrackingAddress.parse(text)
        assert (str(address), address.secrets, address.masked(f"no {text}")) == (text, (), f"no {text}")


@pytest.mark.parametrize(
    "text",
    [
        "http://me:gehe/im@host",
        "http://me:12/geheim@host",
        "http://me:gehe#im@host",
        "http://me:gehe?im@host",
        "postgresql://me:gehe@im@host/db",
        "postgresql://me:gehe@im/geheim@host/db",
        "what ever:geheim@host",
    ],
)
def test_a_password_that_is_not_clear_is_refused_without_being_shown(text) -> None:
    with pytest.raises(UserError, match=r"it is unclear where its password ends; .* '@' as %40") as raised:
        config(tracking_uri=text)
    assert "gehe" not in str(raised.value)
    assert "im@" not in str(raised.value)


@pytest.mark.parametrize("text", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_a_database_in_memory_is_refused(text) -> None:
    with pytest.raises(
        UserError, match=rf"^--tracking-uri {re.escape(text)}: is a database in memory, .* sqlite:///"
    ):
        config(tracking_uri=text)
    with pytest.raises(UserError, match="write the path itself"):
        config(tracking_uri="sqlite:///file:x?mode=memory&uri=true")


def test_a_relative_file_is_where_the_search_was_started(workplace, monkeypatch) -> None:
    there = f"sqlite:///{workplace}"
    settings = [
        config(),
        config(tracking_uri="sqlite:///mlflow.db"),
        config(tracking_uri="sqlite:///a/b c.db"),
    ]
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    found = [stored_again(one).resumed().tracking.tracking_uri for one in settings]
    assert found == [f"{there}/mlflow.db", f"{there}/mlflow.db", f"{there}/a/b c.db"]
    assert settings[2].tracking.address.file == workplace / "a" / "b c.db"
    again = stored_again(settings[0]).resumed(tracking_uri="sqlite:///mlflow.db")
    assert again.tracking.tracking_uri == f"{there}/elsewhere/mlflow.db"


@pytest.mark.parametrize("name", ["what?", "50%25", "a#b", "ü&=x"])
def test_a_folder_s_name_may_be_strange(workplace, monkeypatch, name) -> None:
    (workplace / name).mkdir()
    monkeypatch.chdir(workplace / name)
    settings = config()
    assert settings.tracking.address.file == stored_again(settings).tracking.address.file
    assert settings.tracking.address.file == workplace / name / "mlflow.db"


def test_the_option_is_before_the_variable_and_that_before_the_default(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{WRITTEN}@host ")
    settings = config()
    assert (str(settings.tracking.address), settings.tracking.address.origin) == (
        "http://me:***@host",
        "MLFLOW_TRACKING_URI",
    )
    assert config(tracking_uri="http://other").tracking.tracking_uri == "http://other"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://third")
    assert stored_again(settings).resumed().tracking.tracking_uri == "http://me:***@host"
    assert stored_again(settings).resumed(tracking_uri="http://4").tracking.tracking_uri == "http://4"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert config().tracking.tracking_uri == f"sqlite:///{Path.cwd()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    with pytest.raises(UserError, match=r"^MLFLOW_TRACKING_URI sqlite://: is a database in memory"):
        config()


@pytest.mark.parametrize("text", [text for text in WITH_SECRETS if "me:" in text])
def test_the_whole_address_in_the_variable_gives_the_secret(text) -> None:
    stored = TrackingAddress.parse(str(TrackingAddress.parse(text)))
    found = stored.with_credentials({"MLFLOW_TRACKING_URI": text})
    assert found.full == TrackingAddress.parse(text).full
    assert str(found) == str(stored)
    assert found.masked(SECRET) == "***"
    for other in ("", text.replace("host", "other"), str(stored)):
        with pytest.raises(UserError, match=r"the password is not stored; .*MLFLOW_TRACKING_URI") as raised:
            stored.with_credentials({"MLFLOW_TRACKING_URI": other})
        assert WRITTEN not in str(raised.value)


def test_a_server_s_credentials_are_in_mlflow_s_variables() -> None:
    stored = TrackingAddress.parse("http://me:***@host:5000/x")
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"):
        stored.with_credentials({"MLFLOW_TRACKING_USERNAME": "me"})
    names = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}
    for environment in (names, {"MLFLOW_TRACKING_TOKEN": SECRET}):
        found = stored.with_credentials(environment)
        assert (found.full, str(found)) == ("http://host:5000/x", str(stored))  # MLflow reads them itself
    with pytest.raises(UserError, match="the password is not stored"):
        TrackingAddress.parse("postgresql://me:***@host/db").with_credentials(names)
    plain = TrackingAddress.parse("http://host")
    assert plain.with_credentials({}) is plain


ARGUMENTS = """
import psutil, sys
from search.config.address import TrackingAddress
from search.confidential import blot_argument
blot_argument(sys.argv[2])
print(*psutil.Process().cmdline(), *sys.argv)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lets a process change its command line")
def test_an_argument_is_overwritten_in_the_list_of_processes() -> None:
    address = f"http://me:{WRITTEN}@host"
    command = [sys.executable, "-c", ARGUMENTS, "--tracking-uri", address, "--name=x"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert WRITTEN not in done.stdout
    assert done.stdout.count("http://****") == 2
    assert done.stdout.count("--name=x") == 2
