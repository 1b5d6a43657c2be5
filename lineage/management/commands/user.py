"""`manage.py user add EMAIL --role …`: people who read evidence."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import CommandParser
from django.core.validators import validate_email
from django.utils.dateparse import parse_date, parse_datetime

from lineage import access, errors, ledger
from lineage.management.commands._told import Told, operator
from lineage.models import ApiToken, Role, User


def _time(text: str | None) -> Any:
    if not text:
        return None
    found = parse_datetime(text) or parse_datetime(f"{parse_date(text)}T00:00:00+00:00")
    if found is None or found.tzinfo is None:
        raise errors.SettingsInvalid(f"{text} is not a date or a time with a zone.")
    return found


class Command(Told):
    help = "Adds a person. Prints the password, or with --token an API token, alone."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("email")
        add.add_argument("--role", required=True, choices=[str(r) for r in Role.values])
        add.add_argument("--datasource", action="append", default=[])
        add.add_argument("--environment", action="append", default=[])
        add.add_argument("--from", dest="from_at")
        add.add_argument("--until", dest="until_at")
        add.add_argument("--token", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        validate_email(options["email"])
        user = User.objects.filter(email=options["email"]).first()
        if user and not options["token"]:
            raise errors.SettingsInvalid(f"{options['email']} exists. Add --token for an API token.")
        scope = f"role={options['role']} datasources={options['datasource']} environments={options['environment']}"
        ledger.record_decision(
            "configuration",
            decided_by=operator(),
            subject=f"user {options['email']}",
            transition="token made" if user else "added",
            purpose=scope,
        )
        secret = secrets.token_urlsafe(12)
        if user is None:
            user = User(
                email=options["email"],
                role=options["role"],
                datasources=options["datasource"],
                environments=options["environment"],
                from_at=_time(options["from_at"]),
                until_at=_time(options["until_at"]),
            )
            user.set_password(secret)
            user.save()
        if options["token"]:
            secret = f"tsu_{secrets.token_urlsafe(32)}"
            ApiToken.objects.create(user=user, token_hash=access.token_hash(secret))
        self.stdout.write(secret)
