"""What a report would say if it were issued now: its counts and conclusions, as of this moment and within limits. Nothing is kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
import tempfile
from pathlib import Path

from lineage import queries
from lineage.access import Viewer
from reports import evidence, outcomes, requests, standing
from reports.evidence import Request
from reports.models import Status
from reports.outcomes import Outcome

ACCESSES_MOST = 200_000


@dataclasses.dataclass(frozen=True)
class Preview:
    """What would be issued. `would_be` is the state that it would have, `reasons` say why it is not final."""

    request: Request
    population: dict[str, int]
    conclusion: str
    tests: list[Outcome]
    would_be: Status
    reasons: list[str]
    as_of: int
    at: dt.datetime

    @property
    def deviating(self) -> int:
        return sum(test.deviating for test in self.tests)

    @property
    def tested(self) -> int:
        return sum(test.tested for test in self.tests)


def preview(viewer: Viewer, request: Request) -> Preview:
    """Runs the tests of a report over what is in the log now.

    Raises what `requests.ask` raises, and QueryTooLong for a period of more than `ACCESSES_MOST` accesses.
    """
    request = requests.checked(viewer, request)
    size = int(queries.integrity(viewer)["size"])
    with tempfile.TemporaryDirectory(prefix="preview-") as folder:
        found = evidence.gather(viewer, request, Path(folder), (size, ""), ACCESSES_MOST)
        result = outcomes.evaluate(found)
    would_be, reasons = standing.state(found)
    return Preview(
        request,
        result.population,
        result.conclusion,
        result.outcomes,
        would_be,
        reasons,
        size,
        found.collected_at,
    )
