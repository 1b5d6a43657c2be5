"""`manage.py guardrails show|set|try|default`: what holds, what shall hold, and what it would have said (docs/guardrails.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from lineage import errors, ledger, profiles, queries, rule_words
from lineage.management.commands import _told


class Command(_told.Told):
    help = "Shows, sets and tries guardrails: what the gateways ask about each statement. `set` prints the version's number."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("show").add_argument(
            "number", nargs="?", type=int, help="a version; without: the one that holds"
        )
        establish = verbs.add_parser("set")
        establish.add_argument("file")
        establish.add_argument("--reason", required=True)
        _told.add_person(establish)
        trial = verbs.add_parser("try")
        trial.add_argument("file")
        trial.add_argument("--from", dest="since")
        trial.add_argument("--to", dest="until")
        trial.add_argument("--q", default="", help="only the statements that this search finds")
        trial.add_argument(
            "--most", type=int, default=queries.TRIAL_MOST, help="how many statements at most, the newest first"
        )
        verbs.add_parser("default")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _show(self, options: dict[str, Any]) -> None:
        one = profiles.newest() if options["number"] is None else profiles.one(options["number"])
        who = f"set {one.at:%Y-%m-%d %H:%M} UTC by {one.by}: {one.reason}" if one.at else "the built-in profile"
        self.stdout.write(f"version {one.number}, {who}\nsha256 {one.digest}")
        for rule in one.rules.rules:
            self.stdout.write(f"{rule.outcome}\t{rule.id}\t{rule_words.sentence(rule)}")

    def _set(self, options: dict[str, Any]) -> None:
        made = profiles.establish(_told.person(options, "configuration"), _text(options["file"]), options["reason"])
        self.stdout.write(str(made.number))

    def _try(self, options: dict[str, Any]) -> None:
        who, newest = _told.viewer(), profiles.newest()
        window = queries.between(_told.moment(options["since"]), _told.moment(options["until"]), None)
        rules = profiles.load(_text(options["file"]), newest.number + 1)
        ledger.record_decision(
            "evidence_read", decided_by=who.email, subject="guardrails try", purpose=options["q"][:1024] or None
        )
        trial = queries.dry_run(who, rules, newest.rules, options["q"], window, options["most"])
        stop = {"": "", "number": " (the newest)", "time": " (the newest, in the time that a question may take)"}[
            trial.stopped
        ]
        self.stdout.write(
            f"{trial.judged} of {trial.of.value} recorded statements were judged{stop}, as of record {trial.as_of}"
        )
        for line in trial.lines:
            over = f", {line.over} over its cap" if line.over else ""
            self.stdout.write(f"  {line.outcome}\t{line.rule or 'no rule matches'}\t{line.count}{over}")
        for name, shifts in (("what holds", trial.from_current), ("what was recorded", trial.from_recorded)):
            self.stdout.write(f"against {name}:{'' if shifts else ' no difference'}")
            for shift in shifts:
                records = ", ".join(str(row["index"]) for row in shift.examples)
                self.stdout.write(f"  {shift.before} → {shift.after}\t{shift.count}\trecords {records}")
        for sentence, count in trial.unknown:
            self.stdout.write(f"  {count} statements {sentence}")

    def _default(self, options: dict[str, Any]) -> None:
        self.stdout.write(profiles.BUILT_IN.text, ending="")


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.GuardrailsInvalid(f"The file {path} cannot be read as text in UTF-8.") from error
