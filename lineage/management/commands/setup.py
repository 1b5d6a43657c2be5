"""`manage.py setup`: migrate, then give the working roles their rights. Run as owner; idempotent."""

from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection

GRANTS = Path(__file__).resolve().parents[2] / "sql" / "grants.sql"
UNSAFE = ("fsync", "full_page_writes")


class Command(BaseCommand):
    help = "Creates and updates the store's tables and roles."

    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            for name in UNSAFE:
                cursor.execute("select current_setting(%s)", [name])
                if cursor.fetchone()[0] != "on":
                    raise SystemExit(
                        f"PostgreSQL runs with {name}=off: an acknowledged event could be lost. Set it on."
                    )
        call_command("migrate", interactive=False, verbosity=options["verbosity"])
        with connection.cursor() as cursor:
            cursor.execute(GRANTS.read_text())
        from lineage import alarms, checkpoints, errors, ledger

        ledger.own_source_id()
        try:
            checkpoints.begin()
        except errors.SignerRefused as error:
            # The keeper refuses too; all else goes on, so that nothing that sources send is lost.
            alarms.sound(error.fields["alarm"], error.message)
