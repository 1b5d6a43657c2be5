"""Deliberate errors on the command line: their sentence on stderr, exit status 1."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand

from lineage import errors
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
