"""Deliberate errors on the command line: their sentence on stderr, exit status 1."""

from __future__ import annotations

import datetime as dt
import getpass
import sys
from typing import Any, Literal

from django.core.management.base import BaseCommand, CommandParser

from config import settings
from lineage import access, errors, rights
from lineage.access import Viewer
from lineage.models import Role


class Told(BaseCommand):
    """A command whose deliberate errors are told in one line."""

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except errors.TouchstoneError as error:
            sys.stderr.write(f"{error.code}: {error.message}\n")
            raise SystemExit(1) from error


def operator() -> str:
    """Who runs a command: the operating system's user, as configuration events name them."""
    return f"{getpass.getuser()}@command-line"


def viewer() -> Viewer:
    """The command line sees everything: whoever can run it holds the data folder."""
    return Viewer(email=operator(), role=Role.ADMIN)


def add_person(parser: CommandParser) -> None:
    """The arguments by which a person says who they are."""
    parser.add_argument(
        "--as", dest="email", help="who you are; asks for your password. Else TOUCHSTONE_TOKEN or TOUCHSTONE_TOKEN_FILE"
    )


def person(options: dict[str, Any], kind: rights.Kind | Literal["approval", "configuration", "grant"]) -> Viewer:
    """The person at the command line, by API token or password. Raises TokenInvalid, recorded, for anybody else."""
    given = settings.secret("TOUCHSTONE_TOKEN")
    try:
        if options["email"]:
            return access.viewer_of_password(options["email"], getpass.getpass(f"Password of {options['email']}: "))
        if not given:
            raise errors.TokenInvalid("Say who you are: --as EMAIL asks for your password, or set TOUCHSTONE_TOKEN.")
        return access.viewer_of_token(given)
    except errors.TokenInvalid:
        rights.refuse(kind, None, operator(), errors.TokenInvalid.code)
        raise


def moment(text: str | None) -> dt.datetime | None:
    """A time from the command line: a date, or a time; UTC unless it says otherwise. Raises QueryInvalid."""
    if not text:
        return None
    try:
        found = dt.datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise errors.QueryInvalid("Write a time as 2026-11-21 or 2026-11-21T14:30, UTC.", time=text[:40]) from error
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)
