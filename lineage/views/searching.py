"""Search: what is found of each kind, how it can be narrowed, what a box may go on with, and the whole list as a file."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_GET

from lineage import access, cells, errors, exports, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.events import format_time, parse_time
from lineage.search import EXAMPLES, FIELDS, HINTS, TEXT_LIMIT, Unfinished, chips, parse, unfinished
from lineage.views import frame


class Kind(NamedTuple):
    """How results of one kind are called."""

    tab: str
    one: str
    many: str


KINDS = {
    "event": Kind("Records", "record", "records"),
    "touch": Kind("Rows and tables", "access to a row or table", "accesses to rows and tables"),
    "session": Kind("Sessions", "session", "sessions"),
    "identity": Kind("Identities", "identity", "identities"),
    "relation": Kind("Tables", "table", "tables"),
}
QUESTIONS = (
    ("relation:customers key:4711", "who touched customer 4711"),
    ("type:agent op:delete", "what agents deleted"),
    ("verdict:blocked since:24h", "what was refused in the last day"),
    ("ticket:OPS-42", "what was done under a ticket"),
    ("op:export rows:>1000", "large exports"),
)
FIRST = frozenset({"actor", "agent", "relation", "key", "op", "verdict", "type", "ticket", "since"})
"""The fields that are offered before anything is written."""
OFFERED_MOST = 12
LENGTHS = ("50", "200", "1000")


@require_GET
@evidence_read
def search(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Results for `q`, or how to ask. A question that cannot be understood keeps its text and says where."""
    q, by = request.GET.get("q", "").strip(), request.GET.get("by", "event")
    by = by if by in KINDS else "event"
    context: dict[str, Any] = {
        "q": q, "by": by, "kinds": KINDS, "examples": QUESTIONS, "fields": fields(), "title": "Search the records",
    }  # fmt: skip
    status = 200
    if q:
        try:
            context |= found(request, viewer, q, by)
        except errors.QueryInvalid as fault:
            context |= {"fault": fault, "meant": meant(fault), "title": "The search text cannot be understood"}
            status = fault.status
    answer = frame.page(request, "lineage/search.html", context)
    answer.status_code = status
    return answer


def fields() -> list[dict[str, Any]]:
    """Every field with what it is, an example and, where its vocabulary is closed, its values."""
    return [
        {"name": f.label, "what": f.description, "example": EXAMPLES[f.label], "values": f.values}
        for f in FIELDS.values()
    ]


def meant(fault: errors.QueryInvalid) -> str:
    """The text that was probably meant, if it can be understood."""
    text = fault.fields.get("meant", "")
    try:
        parse(text)
    except errors.QueryInvalid:
        return ""
    return text


def found(request: HttpRequest, viewer: Viewer, q: str, by: str) -> dict[str, Any]:
    """The answer to a search, with the counts of each kind and of the values by which it can be narrowed."""
    window, now = frame.window(request), dt.datetime.now(dt.UTC)
    _, one, many = KINDS[by]
    answer = queries.LISTS[by](viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    total = answer.total
    if request.GET.get("count") == "exact" and not total.exact:
        total = queries.exact_total(viewer, q, window, by, answer.as_of)
    counts, kinds = counted(viewer, q, window, by, answer.as_of)
    shown = [c["name"] for c in counts.get("environment", ())]
    return {
        "answer": answer,
        "imported": queries.tickets(viewer, [row.get("ticket") for row in answer.items]),
        "total": total,
        "counts": kinds | {by: total},
        "facets": facets(q, counts),
        "is_uncounted": not kinds,
        "facets_of": words.number(queries.FACET_MOST) if not total.exact or total.value > queries.FACET_MOST else "",
        "export": exported(q, by, window, answer.as_of, now),
        "forms": cells.forms(by),
        "lengths": LENGTHS,
        "kept": {name: request.GET.get(name, "") for name in frame.CARRIED} | {"q": q, "by": by},
        "export_most": exports.ROWS_MOST,
        "title": f"{words.total(total, one, many)} {frame.period(request)}",
        "simulated": words.simulated(window, shown, frame.SIMULATED),
    }


def counted(
    viewer: Viewer, q: str, window: queries.Window, by: str, as_of: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, queries.Total]]:
    """Counts by value and by kind; empty where counting takes too long: the list itself is there all the same."""
    try:
        counts = queries.search_counts(viewer, q, window, by, as_of)
        return counts, queries.kinds_counted(viewer, q, window, as_of)
    except errors.QueryTooLong:
        return {}, {}


def facets(q: str, counts: dict[str, list[dict[str, Any]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The values by which a search can be narrowed; one that it names already is taken away by its link."""
    chosen = {chip.text: chip.without for chip in chips(parse(q))}

    def row(field: str, one: dict[str, Any]) -> dict[str, Any]:
        condition = canonical(words.condition(field, one["name"]))
        return one | {"without": chosen.get(condition), "is_chosen": condition in chosen}

    return [(field, [row(field, one) for one in rows]) for field, rows in counts.items() if rows]


def canonical(condition: str) -> str:
    """A condition as a chip writes it; "" for a value that no search can hold."""
    try:
        return parse(condition).text()
    except errors.QueryInvalid:
        return ""


def exported(q: str, by: str, window: queries.Window, as_of: int, now: dt.datetime) -> dict[str, str]:
    """The parameters of an export of exactly this list: times are fixed, and the log size that was shown."""
    given = {
        "q": q, "by": by, "since": format_time(window.since) if window.since else "",
        "until": format_time(window.until) if window.until else "", "environment": window.environment or "",
        "as_of": str(as_of), "now": format_time(now),
    }  # fmt: skip
    return {name: text for name, text in given.items() if text}


@require_GET
@evidence_read
def export(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """The whole list of a search as a file with its manifest, in a ZIP that is made while it is sent."""
    made = exports.Export(viewer, asked(request))
    answer = StreamingHttpResponse(made.sent(access.check_still), content_type="application/zip")
    answer["Content-Disposition"] = f'attachment; filename="{made.name}"'
    answer["Cache-Control"] = "private, no-store"
    answer["X-Rows"] = str(made.whole.count)
    return answer


def asked(request: HttpRequest) -> exports.Asked:
    """What an address asks to be exported. Raises QueryInvalid."""
    given = request.GET
    size, now = given.get("as_of", ""), given.get("now", "")
    if size and not (size.isascii() and size.isdigit() and len(size) < 16):
        raise errors.QueryInvalid(
            "The log size (as_of) is a whole number. Leave it out for the newest.", as_of="number"
        )
    try:
        moment = parse_time(now) if now else dt.datetime.now(dt.UTC)
    except ValueError as error:
        raise errors.QueryInvalid(
            "Write the time that relative times count from (now) as RFC 3339.", now="time"
        ) from error
    window = frame.window(request)
    by, form = given.get("by", "event"), given.get("format", "csv")
    return exports.Asked(given.get("q", "").strip(), by, window, form, moment, int(size) if size else None)


@require_GET
@signed_in
def complete(request: HttpRequest, viewer: Viewer) -> HttpResponseBase:
    """What a text may go on with: `{"from", "options": [{"text", "what"}]}`. Values of records are a read of evidence."""
    text = request.GET.get("text", "")[:TEXT_LIMIT]
    end = unfinished(text)
    if end.field in queries.COMPLETED and not FIELDS[end.field].values:
        return values_of_records(request, end)
    return _offered(end.begin, _fields_and_words(end))


@evidence_read
def values_of_records(request: HttpRequest, viewer: Viewer, end: Unfinished) -> HttpResponse:
    """Values in the viewer's newest records; each read is recorded with what was written."""
    found = queries.completions(viewer, end.field, end.written)
    options = [
        {
            "text": words.condition(end.field, row["name"]).partition(":")[2],
            "what": f"{words.number(row['count'])} lately",
        }
        for row in found
    ]
    return _offered(end.begin, options)


def _fields_and_words(end: Unfinished) -> list[dict[str, str]]:
    if end.field:
        field = FIELDS.get(end.field)
        offered = [*(field.values if field else ()), *HINTS.get(end.field, ())]
        return [{"text": one, "what": ""} for one in offered if one.startswith(end.written.lower())]
    written = end.written.lower()
    names = [f for f in FIELDS.values() if (f.name.startswith(written) if written else f.name in FIRST)]
    return [{"text": f"{f.name}{'.' if f.of_column else ':'}", "what": f.description} for f in names]


def _offered(begin: int, options: list[dict[str, str]]) -> HttpResponse:
    answer = JsonResponse({"from": begin, "options": options[:OFFERED_MOST]})
    answer["Cache-Control"] = "private, no-store"
    return answer
