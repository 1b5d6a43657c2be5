"""`manage.py user add EMAIL --role …`: people who read evidence or work on databases, and services that connect."""

from __future__ import annotations

from typing import Any

import msgspec
from django.core.management.base import CommandParser

from lineage import access, api_tokens, errors, seats
from lineage.management.commands._told import Told, moment, viewer
from lineage.models import Role, User

MADE_HERE = "made on the command line"


class Command(Told):
    help = "Adds and changes people and services. `add` prints the password, or with --token, and for services, an API token, alone."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in ("add", "change"):
            one = verbs.add_parser(verb)
            one.add_argument("email", help="e-mail address; of a service, its name")
            one.add_argument("--role", required=verb == "add", choices=[str(r) for r in Role.values])
            one.add_argument(
                "--datasource", dest="datasources", action="append", help='only these databases; "" for all'
            )
            one.add_argument("--environment", dest="environments", action="append", help='only these; "" for all')
            one.add_argument(
                "--group", dest="groups", action="append", help="stands in tokens for gateways beside the role"
            )
            one.add_argument("--from", dest="from_at", help="only records from this time")
            one.add_argument("--until", dest="until_at", help="only records before this time")
            one.add_argument("--ends", dest="ends_at", help='when the seat itself ends; "" for never')
            if verb == "add":
                one.add_argument("--token", action="store_true")
        for verb in ("close", "reopen", "password", "release"):
            verbs.add_parser(verb).add_argument("email")
        verbs.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        user = User.objects.filter(email=seats.checked_name(options["email"], options["role"])).first()
        has_token = options["token"] or options["role"] == Role.SERVICE
        if user and not has_token:
            raise errors.AccessInvalid(f"{options['email']} exists. Add --token for an API token.")
        secret = ""
        if user is None:
            user, secret = seats.add(viewer(), options["email"], _wanted(seats.Wanted(role=options["role"]), options))
        if has_token:
            secret = api_tokens.make(viewer(), user, api_tokens.Wanted(name=MADE_HERE))
        self.stdout.write(secret)

    def _change(self, options: dict[str, Any]) -> None:
        user = seats.named(options["email"])
        seats.change(viewer(), user, _wanted(seats.wanted_of(user), options))
        self.stdout.write(f"{user.email} is changed.")

    def _close(self, options: dict[str, Any]) -> None:
        seats.close(viewer(), seats.named(options["email"]))
        self.stdout.write(f"The seat of {options['email']} is closed.")

    def _reopen(self, options: dict[str, Any]) -> None:
        seats.reopen(viewer(), seats.named(options["email"]))
        self.stdout.write(f"The seat of {options['email']} is open.")

    def _release(self, options: dict[str, Any]) -> None:
        seats.release(viewer(), seats.named(options["email"]))
        self.stdout.write(f"Who next comes by OpenID Connect with the address {options['email']} is this person.")

    def _password(self, options: dict[str, Any]) -> None:
        self.stdout.write(seats.reset_password(viewer(), seats.named(options["email"])))

    def _list(self, options: dict[str, Any]) -> None:
        for user in seats.listed(viewer()):
            state = "open" if access.is_open(user) else "ended" if user.is_active else "closed"
            self.stdout.write(f"{user.email}\t{access.viewer_of(user).label}\t{state}")


def _wanted(present: seats.Wanted, options: dict[str, Any]) -> seats.Wanted:
    """The present seat with what was given; an empty text removes a bound."""
    given: dict[str, Any] = {"role": options["role"]} if options["role"] else {}
    for name in ("datasources", "environments", "groups"):
        if options[name] is not None:
            given[name] = tuple(one for one in options[name] if one)
    for name in ("from_at", "until_at", "ends_at"):
        if options[name] is not None:
            given[name] = moment(options[name])
    return msgspec.structs.replace(present, **given)
