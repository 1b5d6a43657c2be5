"""The gateway's settings file: what is refused, and what the refusal says to do; and `--check`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from enforcement.gateway import settings
from enforcement.gateway.settings import SettingsError
from tests.enforcement.gateway.running import BASE, Shop, Signer, private, settings_file

GOOD = """
[gateway]
name = "gw"
folder = "spool"
cleartext_on_loopback = true
[[issuer]]
name = "corporate"
issuer = "https://login.example"
audience = "touchstone-gateway"
keys_file = "keys.json"
[[database]]
name = "shop"
datasource = "shop"
environment = "production"
host = "db"
sslrootcert = "ca.crt"
[[database.account]]
account = "app"
password_file = "app.password"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a settings file beside its secrets; the path."""
    for name in ("keys.json", "ca.crt"):
        (tmp_path / name).write_text("{}")
    private(tmp_path / "app.password", b"secret\n")

    def wrote(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return wrote


def test_paths_are_taken_from_the_folder_of_the_file(write: Callable[[str], Path]) -> None:
    path = write(GOOD)
    found = settings.load(path)
    assert found.gateway.folder == str(path.parent / "spool")
    assert settings.secret(found.database[0].account[0].password_file) == "secret"
    assert found.find("shop") is found.database[0]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('host = "db"', 'hots = "db"', "hots is not known; the nearest is host"),
        ('account = "app"', 'acount = "app"', "acount is not known; the nearest is account"),
        ("cleartext_on_loopback = true", "", "write cleartext_on_loopback = true if that is meant"),
        ("cleartext_on_loopback = true", 'listen = "0.0.0.0:6432"', "without TLS would send tokens and rows in clear"),
        ('sslrootcert = "ca.crt"', 'sslmode = "require"', "or say why not with insecure_because"),
        ('sslrootcert = "ca.crt"', "", "give sslrootcert"),
        ('keys_file = "keys.json"', 'keys_url = "http://login.example"', "must begin with https://"),
        ('password_file = "app.password"', 'password_file = "other"', "cannot be read"),
        ("cleartext_on_loopback = true", "cleartext_on_loopback = true\nmessage_mib = 65", "between 1 and 64"),
        ("cleartext_on_loopback = true", "cleartext_on_loopback = true\nmessage_mib = 0", "must be more than 0"),
        ('host = "db"', 'host = "db"\nport = 0', "port must be between 1 and 65535"),
        ('host = "db"', 'host = "db"\nwhen_unrecorded = "maybe"', "when_unrecorded"),
    ],
)
def test_what_is_wrong_is_refused_with_what_to_write(
    write: Callable[[str], Path], before: str, after: str, sentence: str
) -> None:
    assert before in GOOD
    with pytest.raises(SettingsError) as refused:
        settings.load(write(GOOD.replace(before, after)))
    assert sentence in str(refused.value)


def test_a_secret_that_others_can_read_is_refused_with_the_command(write: Callable[[str], Path]) -> None:
    path = write(GOOD)
    (path.parent / "app.password").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        settings.load(path)


def test_weaker_tls_is_taken_where_the_file_says_why(write: Callable[[str], Path]) -> None:
    weaker = 'sslmode = "disable"\ninsecure_because = "on the same machine"'
    assert settings.load(write(GOOD.replace('sslrootcert = "ca.crt"', weaker))).database[0].sslmode == "disable"


def test_check_names_what_is_wrong_with_an_account_and_the_sql_that_mends_it(
    served_shop: Shop, signer: Signer, tmp_path: Path
) -> None:
    path = settings_file(tmp_path / "gateway", served_shop, signer)
    served_shop.run("alter role other createrole")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "enforcement.gateway", path, "--check"],
            cwd=BASE, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        served_shop.run("alter role other nocreaterole")
    assert done.returncode == 1, done.stderr
    assert "alter role other nocreaterole;" in done.stdout
    assert "account app" not in done.stdout
