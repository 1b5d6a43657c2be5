"""`manage.py source add|revoke|list`: feeds and their tokens."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from lineage import access, errors, ledger, sources
from lineage.management.commands._told import Told, operator
from lineage.models import Source

ASSERTIONS = ("actor", "approval", "grant", "policy", "state")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class Command(Told):
    help = "Adds or revokes a source. `add` prints the ingest token, alone."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("name")
        add.add_argument("--format", required=True)
        add.add_argument("--environment", default="default")
        add.add_argument("--datasource", default="")
        add.add_argument("--asserts", default="", help=f"comma-separated: {', '.join(ASSERTIONS)}")
        add.add_argument("--context-roles", default="", help="logins whose context messages are believed")
        revoke = verbs.add_parser("revoke")
        revoke.add_argument("name")
        verbs.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        if options["format"] not in sources.FORMATS:
            raise errors.FormatUnknown(f"Format {options['format']} is not built. Built: {', '.join(sources.FORMATS)}.")
        asserts = _list(options["asserts"])
        if strange := set(asserts) - set(ASSERTIONS):
            raise errors.SettingsInvalid(
                f"Unknown assertion {', '.join(sorted(strange))}; known: {', '.join(ASSERTIONS)}."
            )
        if Source.objects.filter(name=options["name"]).exists():
            raise errors.SettingsInvalid(
                f"A source named {options['name']} exists. Revoke it, and choose another name."
            )
        token = f"tsi_{secrets.token_urlsafe(32)}"
        ledger.record_decision(
            "configuration",
            decided_by=operator(),
            subject=f"source {options['name']}",
            transition="added",
            purpose=f"format={options['format']} environment={options['environment']} datasource={options['datasource']} "
            f"asserts={','.join(asserts)} context_roles={options['context_roles']}",
        )
        Source.objects.create(
            name=options["name"],
            format=options["format"],
            environment=options["environment"],
            datasource=options["datasource"],
            asserts=asserts,
            context_roles=_list(options["context_roles"]),
            token_hash=access.token_hash(token),
        )
        self.stdout.write(token)

    def _revoke(self, options: dict[str, Any]) -> None:
        source = Source.objects.filter(name=options["name"], revoked_at__isnull=True).first()
        if source is None:
            raise errors.NotFound(f"There is no active source named {options['name']}.")
        ledger.record_decision(
            "configuration", decided_by=operator(), subject=f"source {source.name}", transition="revoked"
        )
        Source.objects.filter(pk=source.pk).update(revoked_at=timezone.now())
        self.stdout.write(f"{source.name} is revoked.")

    def _list(self, options: dict[str, Any]) -> None:
        for source in Source.objects.exclude(name="touchstone").order_by("name"):
            state = "revoked" if source.revoked_at else "active"
            self.stdout.write(f"{source.name}\t{source.format}\t{source.environment}\t{source.datasource}\t{state}")
