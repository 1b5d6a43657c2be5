"""The gateway's settings file: TOML, read once at start, strict.

An unknown key is an error that names the nearest known one. Secrets stand in files of their own, which only their owner may read.
What weakens the way of a password or a row is refused unless the file says why (`insecure_because`). Paths are taken from the
folder of the settings file. `python -m enforcement.gateway --help` describes every key.
"""

from __future__ import annotations

import difflib
import ipaddress
import stat
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec


class SettingsError(Exception):
    """The settings cannot be used; the sentence names the place and says what to write instead."""


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[gateway]`: where it listens, what it keeps, which store it belongs to, what it bears."""

    name: str
    folder: str
    listen: str = "127.0.0.1:6432"
    address: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    cleartext_on_loopback: bool = False
    store: str = ""
    token_file: str = ""
    store_ca_file: str = ""
    max_sessions: int = 500
    max_sessions_per_identity: int = 50
    login_seconds: float = 30.0
    connect_seconds: float = 10.0
    drain_seconds: float = 30.0
    message_mib: int = 64
    spool_limit_mib: int = 1024


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[database.account]]`: an account of the database, and who may work under it. An empty list lets everyone."""

    account: str
    password_file: str
    people: tuple[str, ...] = ()
    types: tuple[Literal["human", "service", "agent"], ...] = ()
    roles: tuple[str, ...] = ()


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[database]]`: what clients call it, where it is, how it is reached, under which accounts."""

    name: str
    datasource: str
    environment: str
    host: str
    port: int = 5432
    dbname: str = ""
    sslmode: Literal["verify-full", "verify-ca", "require", "disable"] = "verify-full"
    sslrootcert: str = ""
    insecure_because: str = ""
    when_unrecorded: Literal["refuse", "run"] = "refuse"
    required: bool = False
    identity_message: bool = True
    idle_seconds: float = 3600.0
    idle_in_transaction_seconds: float = 300.0
    plan_seconds: float = 2.0
    catalog_account: str = ""
    other_accounts: tuple[str, ...] = ()
    harmless_functions: tuple[str, ...] = ()
    account: tuple[Account, ...] = ()

    @property
    def reader(self) -> Account:
        """The account under which the catalog is read: `catalog_account`, else the first."""
        return next((one for one in self.account if one.account == self.catalog_account), self.account[0])

    @property
    def real_name(self) -> str:
        """The database's name on its server."""
        return self.dbname or self.name


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[issuer]]`: whose tokens are believed beside the store's; its public keys (JWK set) from a file or an https address."""

    name: str
    issuer: str
    audience: str
    kind: Literal["touchstone", "oidc"] = "oidc"
    keys_file: str = ""
    keys_url: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    claims: dict[str, str] = {}
    agent_clients: tuple[str, ...] = ()
    service_claims: dict[str, str] = {}
    single_use: bool = False
    longest_seconds: int = 12 * 3600


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `database` in the order of the file."""

    gateway: Gateway
    database: tuple[Database, ...]
    issuer: tuple[Issuer, ...] = ()

    def find(self, name: str) -> Database | None:
        """The database that clients call `name`."""
        return next((one for one in self.database if one.name == name), None)


PATHS = (
    "folder", "tls_certificate", "tls_key", "token_file", "store_ca_file", "sslrootcert", "password_file",
    "catalog_password_file", "keys_file",
)  # fmt: skip
SECRETS = frozenset({"tls_key", "token_file", "password_file"})
TABLES: dict[str, type[msgspec.Struct]] = {
    "": Settings, "gateway": Gateway, "database": Database, "database.account": Account, "issuer": Issuer,
}  # fmt: skip


def load(path: Path) -> Settings:
    """Read and judge the file. SettingsError names everything that is wrong, one sentence a line."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None
    faults = _prepare(table, "", "", path.resolve().parent)
    if faults:
        raise SettingsError("\n".join(faults))
    try:
        settings = msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {error}.") from None
    faults = [*_gateway_faults(settings.gateway), *_issuer_faults(settings), *_database_faults(settings)]
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def secret(path: str) -> str:
    """The content of a secret's file without the line's end."""
    return Path(path).read_text(encoding="utf-8").strip()


def address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f'[gateway] "{listen}" is no address: write "host:port", such as "0.0.0.0:5432".')
    return host.strip("[]"), int(port)


def _prepare(table: dict[str, Any], kind: str, place: str, folder: Path) -> list[str]:
    """Faults of keys and secret files of a table and those in it; paths become absolute on the way."""
    known = TABLES[kind].__struct_fields__
    faults = []
    for key, value in table.items():
        where = f"{place}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            faults.append(f"{where} is not known; the nearest is {near}. Remove or rename it.")
        elif key in PATHS and isinstance(value, str) and value:
            table[key] = str(folder / value)
            faults += _file_faults(where, key, Path(table[key]))
        else:
            faults += _inner(value, f"{kind}.{key}".lstrip("."), where, folder)
    return faults


def _inner(value: Any, kind: str, where: str, folder: Path) -> list[str]:
    if kind not in TABLES:
        return []
    if isinstance(value, dict):
        return _prepare(value, kind, f"{where}.", folder)
    if not isinstance(value, list):
        return [f"{where} is a table: write [{where}]."]
    tables = [(number, one) for number, one in enumerate(value, 1) if isinstance(one, dict)]
    return [fault for number, one in tables for fault in _prepare(one, kind, f"{where} {number}: ", folder)]


def _file_faults(where: str, key: str, path: Path) -> list[str]:
    if key == "folder":
        return []
    try:
        mode = path.stat().st_mode
        path.open("rb").close()
    except OSError as error:
        return [f"{where}: {path} cannot be read ({error.strerror}). Make the file, or correct the path."]
    if key in SECRETS and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [f"{where}: {path} holds a secret that others can read. Run: chmod 600 {path}"]
    return []


def _gateway_faults(gateway: Gateway) -> list[str]:
    host, _ = address(gateway.listen)
    faults = []
    if gateway.address:
        address(gateway.address)
    if bool(gateway.tls_certificate) != bool(gateway.tls_key):
        faults.append("[gateway] tls_certificate and tls_key belong together: give both.")
    elif not gateway.tls_certificate and not _is_loopback(host):
        faults.append(
            f'[gateway] listen = "{gateway.listen}" without TLS would send tokens and rows in clear: give tls_certificate and tls_key.'
        )
    elif not gateway.tls_certificate and not gateway.cleartext_on_loopback:
        faults.append(
            "[gateway] has no tls_certificate: give one, or write cleartext_on_loopback = true if that is meant."
        )
    if bool(gateway.store) != bool(gateway.token_file):
        faults.append("[gateway] store and token_file belong together: give both, or neither to work without a store.")
    return faults + _number_faults(gateway)


def _number_faults(gateway: Gateway) -> list[str]:
    faults = []
    for name in (
        "max_sessions",
        "max_sessions_per_identity",
        "login_seconds",
        "connect_seconds",
        "message_mib",
        "spool_limit_mib",
    ):
        if getattr(gateway, name) <= 0:
            faults.append(f"[gateway] {name} must be more than 0.")
    if gateway.message_mib > 64:
        faults.append("[gateway] message_mib must be between 1 and 64.")
    return faults


def _issuer_faults(settings: Settings) -> list[str]:
    faults = []
    if not settings.issuer and not settings.gateway.store:
        faults.append("Nobody could sign in: give [gateway] store and token_file, or an [[issuer]].")
    for one in settings.issuer:
        if bool(one.keys_file) == bool(one.keys_url):
            faults.append(f"[[issuer]] {one.name}: give either keys_file or keys_url.")
        if one.keys_url and not one.keys_url.startswith("https://"):
            faults.append(
                f"[[issuer]] {one.name}: keys_url must begin with https://: whoever changes keys on the way lets anyone in."
            )
    return faults


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _database_faults(settings: Settings) -> list[str]:
    faults = [] if settings.database else ["There is no [[database]]: name at least one that clients may reach."]
    names = [one.name for one in settings.database]
    faults += [
        f"[[database]] {name} is there twice: give each a name of its own."
        for name in {n for n in names if names.count(n) > 1}
    ]
    for one in settings.database:
        if one.sslmode != "verify-full" and not one.insecure_because.strip():
            faults.append(
                f'[[database]] {one.name}: sslmode = "{one.sslmode}" lets another server take its place: use "verify-full", '
                'or say why not with insecure_because = "…".'
            )
        if one.sslmode.startswith("verify") and not one.sslrootcert:
            faults.append(
                f"[[database]] {one.name}: give sslrootcert, the authority that signs the database's certificate."
            )
        if not one.account:
            faults.append(f"[[database]] {one.name} has no [[database.account]]: nobody could sign in.")
        elif one.catalog_account and one.catalog_account != one.reader.account:
            faults.append(f"[[database]] {one.name}: catalog_account must be one of its [[database.account]].")
        if any(name.count(".") != 1 for name in one.harmless_functions):
            faults.append(f'[[database]] {one.name}: write harmless_functions as "schema.name".')
        if not 1 <= one.port <= 65535:
            faults.append(f"[[database]] {one.name}: port must be between 1 and 65535.")
    return faults
