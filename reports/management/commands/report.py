"""`manage.py report KIND --from T --to T --out DIR` makes a report now; `list` lists them, `kinds` what can be asked for."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import CommandParser

from lineage import errors, keeper
from lineage.access import Viewer
from lineage.management.commands._told import Told, viewer
from reports import available, controls, issuing, redraws, requests, sampling
from reports.evidence import Request
from reports.models import Report
from reports.sampling import Plan

LISTS = {"list": "_list", "kinds": "_kinds"}


class Command(Told):
    help = "Makes a report on demand, or lists what was made."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", help="the kind of report, such as privileged-access; or: list, kinds")
        parser.add_argument(
            "--from", dest="since", help="start of the period, included: 2026-11-01 or 2026-11-01T08:00"
        )
        parser.add_argument("--to", dest="until", help="end of the period, not included")
        parser.add_argument("--out", type=Path, help="folder for the PDF and the JSON beside it")
        parser.add_argument("--draft", action="store_true", help="a draft even where it could be final")
        parser.add_argument("--q", default="", help="narrow the population by a search")
        parser.add_argument("--environment", default="")
        parser.add_argument(
            "--engagement", default="", help="the auditor's name for the audit; the sample is drawn from it"
        )
        parser.add_argument(
            "--nonce", default="", help="the auditor's; draws the sample of the report made before without it once more"
        )
        parser.add_argument(
            "--sample", default="", help=f"items for tests by hand: a number, or one of {', '.join(sampling.PRESETS)}"
        )
        parser.add_argument(
            "--control", default="", help="of an auditor's request: a test's name, or such as soc2/CC8.1"
        )
        parser.add_argument(
            "--framework", default="", help=f"names the controls of one alone: {', '.join(controls.frameworks())}"
        )
        parser.add_argument("--datasource", action="append", default=[])

    def handle(self, *args: Any, **options: Any) -> None:
        if options["kind"] in LISTS:
            getattr(self, LISTS[options["kind"]])()
            return
        if not (options["since"] and options["until"] and options["out"]):
            raise errors.QueryInvalid("A report needs --from, --to and --out.")
        report = self._ask(viewer(), self._request(options))
        # Where a keeper is at work it makes the checkpoint that the report waits for.
        with contextlib.suppress(errors.StoreUnavailable):
            keeper.once()
        issued = issuing.issue(issuing.claim(report.pk) or report)
        self._copy(issued, options["out"])
        for reason in issued.reasons:
            self.stderr.write(f"{issued.status}: {reason}")

    def _ask(self, who: Viewer, asked: Request) -> Report:
        if not asked.nonce:
            return requests.ask(who, asked)
        first = redraws.newest(requests.visible(who), asked)
        return redraws.ask(who, first, Plan(asked.engagement, asked.nonce, asked.sample), asked.draft_only)

    def _request(self, options: dict[str, Any]) -> Request:
        return Request(
            options["kind"],
            requests.moment(options["since"], "from"),
            requests.moment(options["until"], "to"),
            options["environment"],
            tuple(options["datasource"]),
            options["q"],
            options["draft"],
            options["engagement"],
            options["nonce"],
            options["sample"],
            options["control"],
            options["framework"],
        )

    def _copy(self, report: Report, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        made = Path(settings.DATA_DIR) / report.path
        for path in (made, made.with_suffix(".json"), made.with_suffix(".zip")):
            if path.exists():
                shutil.copyfile(path, out / path.name)
        self.stdout.write(f"{out / made.name}\n{report.number} {report.status} sha256:{report.sha256}")
        for test in msgspec.json.decode(made.with_suffix(".json").read_bytes())["tests"]:
            drawn = test["sample"]
            self.stdout.write(
                f"{test['id']}: {drawn['size']:,} of {drawn['population']:,} {test['items']} drawn, "
                f"population sha256:{drawn['population_sha256']}"
            )

    def _kinds(self) -> None:
        """Every kind with what it asks, or why it is not available."""
        reasons = available.lacking(viewer())
        for kind in controls.KINDS.values():
            reason = reasons.get(kind.id)
            self.stdout.write(
                f"{kind.id}\t{f'not available from these sources: {reason}' if reason else kind.question}"
            )

    def _list(self) -> None:
        for report in Report.objects.order_by("pk"):
            period = f"{report.period_from:%Y-%m-%dT%H:%M:%S} {report.period_to:%Y-%m-%dT%H:%M:%S}"
            self.stdout.write(
                f"{report.number} {report.kind} {period} {report.status} {report.sha256 or '-'} {report.path or '-'}"
            )
