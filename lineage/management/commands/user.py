"""`manage.py user add EMAIL --role …`: people who read evidence or work on databases, and services that connect."""

from __future__ import annotations

import re
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


def _check_name(options: dict[str, Any]) -> None:
    """A person has an e-mail address; a service a name that none could be, and always an API token. No group is a role."""
    for group in options["group"]:
        if group in Role.values or not re.fullmatch(r"[\w.:/-]{1,60}", group):
            raise errors.SettingsInvalid(
                f"{group[:60]!r} cannot be a group: it is a role, or not a name of 60 characters."
            )
    if options["role"] != Role.SERVICE:
        validate_email(options["email"])
        return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", options["email"]):
        raise errors.SettingsInvalid("A service's name has letters, digits, dots, dashes and underscores alone.")
    options["token"] = True


class Command(Told):
    help = "Adds a person or a service. Prints the password, or with --token, and for services, an API token, alone."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("email", help="e-mail address; of a service, its name")
        add.add_argument("--role", required=True, choices=[str(r) for r in Role.values])
        add.add_argument("--datasource", action="append", default=[])
        add.add_argument("--environment", action="append", default=[])
        add.add_argument("--group", action="append", default=[], help="stands in tokens for gateways beside the role")
        add.add_argument("--from", dest="from_at")
        add.add_argument("--until", dest="until_at")
        add.add_argument("--token", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        _check_name(options)
        user = User.objects.filter(email=options["email"]).first()
        if user and not options["token"]:
            raise errors.SettingsInvalid(f"{options['email']} exists. Add --token for an API token.")
        scope = f"role={options['role']} datasources={options['datasource']} environments={options['environment']}"
        if options["group"]:
            scope += f" groups={options['group']}"
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
                groups=options["group"],
                from_at=_time(options["from_at"]),
                until_at=_time(options["until_at"]),
            )
            user.set_password(None if user.role == Role.SERVICE else secret)
            user.save()
        if options["token"]:
            secret = f"tsu_{secrets.token_urlsafe(32)}"
            ApiToken.objects.create(user=user, token_hash=access.token_hash(secret))
        self.stdout.write(secret)
