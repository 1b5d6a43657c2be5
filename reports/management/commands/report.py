"""`manage.py report KIND --from T --to T --out DIR` makes a report now; `manage.py report list` lists them."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from lineage import errors, keeper
from lineage.management.commands._told import Told, viewer
from reports import issuing, requests
from reports.evidence import Request
from reports.models import Report


class Command(Told):
    help = "Makes a report on demand, or lists what was made."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", help="the kind of report, such as privileged-access; or: list")
        parser.add_argument(
            "--from", dest="since", help="start of the period, included: 2026-11-01 or 2026-11-01T08:00"
        )
        parser.add_argument("--to", dest="until", help="end of the period, not included")
        parser.add_argument("--out", type=Path, help="folder for the PDF and the JSON beside it")
        parser.add_argument("--draft", action="store_true", help="a draft even where it could be final")
        parser.add_argument("--q", default="", help="narrow the population by a search")
        parser.add_argument("--environment", default="")
        parser.add_argument("--datasource", action="append", default=[])

    def handle(self, *args: Any, **options: Any) -> None:
        if options["kind"] == "list":
            self._list()
            return
        if not (options["since"] and options["until"] and options["out"]):
            raise errors.QueryInvalid("A report needs --from, --to and --out.")
        report = requests.ask(viewer(), self._request(options))
        # Where a keeper is at work it makes the checkpoint that the report waits for.
        with contextlib.suppress(errors.StoreUnavailable):
            keeper.once()
        issued = issuing.issue(issuing.claim(report.pk) or report)
        self._copy(issued, options["out"])
        for reason in issued.reasons:
            self.stderr.write(f"{issued.status}: {reason}")

    def _request(self, options: dict[str, Any]) -> Request:
        return Request(
            options["kind"],
            requests.moment(options["since"], "from"),
            requests.moment(options["until"], "to"),
            options["environment"],
            tuple(options["datasource"]),
            options["q"],
            options["draft"],
        )

    def _copy(self, report: Report, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        made = Path(settings.DATA_DIR) / report.path
        for path in (made, made.with_suffix(".json")):
            shutil.copyfile(path, out / path.name)
        self.stdout.write(f"{out / made.name}\n{report.number} {report.status} sha256:{report.sha256}")

    def _list(self) -> None:
        for report in Report.objects.order_by("pk"):
            period = f"{report.period_from:%Y-%m-%dT%H:%M:%S} {report.period_to:%Y-%m-%dT%H:%M:%S}"
            self.stdout.write(
                f"{report.number} {report.kind} {period} {report.status} {report.sha256 or '-'} {report.path or '-'}"
            )
