"""`manage.py erase request|approve|reject|list|run`: values go, leaves and proofs stay (docs/erasure.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import erasures, keeper, rights
from lineage.management.commands import _told


class Command(_told.Told):
    help = "Erases values of records: one person asks (`request` prints the number, alone), another one approves."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        request = verbs.add_parser("request")
        request.add_argument("query", help="a search, such as 'relation:customers key:4711'")
        request.add_argument("--groups", required=True, help="comma-separated, of actor,action,statement,change")
        request.add_argument("--reason", required=True)
        request.add_argument("--ground", required=True, help="the legal ground")
        request.add_argument("--since")
        request.add_argument("--until")
        request.add_argument("--value", action="append", default=[], help="a text: every record that holds it goes too")
        request.add_argument("--quarantine", action="append", type=int, default=[], help="a quarantined item")
        for verb in ("approve", "reject"):
            verbs.add_parser(verb).add_argument("number", type=int)
        verbs.add_parser("list")
        verbs.add_parser("run", help="executes what is approved and goes on with what is pending, now")
        for verb in ("request", "approve", "reject"):
            _told.add_person(verbs.choices[verb])

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _request(self, options: dict[str, Any]) -> None:
        asked = erasures.request(
            _told.person(options, "erasure"),
            options["query"],
            [group.strip() for group in options["groups"].split(",") if group.strip()],
            reason=options["reason"],
            ground=options["ground"],
            since=_told.moment(options["since"]),
            until=_told.moment(options["until"]),
            texts=options["value"],
            items=options["quarantine"],
        )
        self.stdout.write(str(asked.number))
        span = f", the first {asked.first}, the last {asked.last}" if asked.records else ""
        self.stderr.write(f"{', '.join(asked.groups)} of {asked.records} records{span}")
        for count in asked.counts:
            self.stderr.write(f"  {count.count}  {count.source_id or '-'}  {count.class_ or '-'}")
        for record in asked.sample:
            shown = (record.get(name, "-") for name in ("index", "kind", "class", "source_id", "occurred_at"))
            self.stderr.write("  " + "  ".join(str(value) for value in shown))
        if asked.quarantined:
            self.stderr.write(f"  {asked.quarantined}  quarantined items")
        self.stderr.write("Nothing is erased before another person approves it.")

    def _approve(self, options: dict[str, Any]) -> None:
        number = options["number"]
        erasures.approve(_told.person(options, "erasure"), number)
        with keeper.lock():
            # A running keeper may have been faster.
            if erasures.one(number).state == "approved":
                erasures.execute(number)
            erasures.finish(number)
        self._tell(erasures.one(number))

    def _reject(self, options: dict[str, Any]) -> None:
        erasures.reject(_told.person(options, "erasure"), options["number"])
        self._tell(erasures.one(options["number"]))

    def _list(self, options: dict[str, Any]) -> None:
        for erasure in erasures.listing():
            self._tell(erasure)
        self.stdout.write(f"{rights.refusals()} refusals so far")

    def _run(self, options: dict[str, Any]) -> None:
        with keeper.lock():
            waiting = erasures.run_due()
        self.stdout.write(f"{waiting} pending")

    def _tell(self, erasure: erasures.Erasure) -> None:
        word = "rejected" if erasure.state == "rejected" else "approved"
        decided = f", {word} by {erasure.decided_by}" if erasure.decided_by else ""
        self.stdout.write(
            f"{erasure.id}\t{erasure.kind}\t{erasure.state}\t{erasure.records} records: {', '.join(erasure.groups)}"
            f"\tasked by {erasure.requested_by}{decided}\t{erasure.reason}"
        )
        for still in erasures.still(erasure):
            until = f" until {still.until:%Y-%m-%d %H:%M:%S} UTC" if still.until else ""
            self.stdout.write(f"\t{'still in' if still.ours else 'outside our reach'}: {still.what}{until}")
