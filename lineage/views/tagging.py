"""Classes of a table's columns: what they are, who said so, what they were, and for some a form to change them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from lineage import errors, queries, tagging, words
from lineage.access import Viewer, holds_database
from lineage.answers import evidence_read
from lineage.views import frame


@require_http_methods(["GET", "POST"])
@evidence_read
def tags(request: HttpRequest, viewer: Viewer, datasource: str, relation: str) -> HttpResponse:
    """The columns of one table with their classes. A table of another's scope is not found."""
    if not holds_database(viewer, datasource):
        raise errors.NotFound
    if request.method == "POST":
        given = {name: request.POST.get(name, "") for name in ("column", "classes", "reason")}
        tagging.establish(viewer, datasource, relation, *given.values())
        return redirect(request.get_full_path())
    classified = queries.tags_of(viewer, datasource, relation)
    names = sorted({*classified, *queries.columns(viewer, datasource, relation)})
    if not names and not tagging.may(viewer):
        raise errors.NotFound
    count = sum(1 for one in classified.values() if one["classes"])
    context: dict[str, Any] = {
        "title": f"{words.counted(count, 'column')} of {relation} {'has' if count == 1 else 'have'} classes",
        "datasource": datasource,
        "relation": relation,
        "columns": [classified.get(name) or {"column": name, "classes": [], "by": None, "at": None} for name in names],
        "history": queries.tag_history(viewer, datasource, relation),
        "may": tagging.may(viewer),
        "asked": request.GET.get("column", ""),
    }
    return frame.page(request, "lineage/tags.html", context)
