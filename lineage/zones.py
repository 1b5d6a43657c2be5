"""In which zone a reader's times are shown. What is stored, searched and exported is UTC always."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse

COOKIE = "touchstone_zone"
UTC = "UTC"
_current: ContextVar[dt.tzinfo] = ContextVar("zone", default=dt.UTC)


@functools.cache
def names() -> tuple[str, ...]:
    """The zones to choose from, UTC first; those that only repeat others under an old name are left out."""
    places = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")
    return (UTC, *sorted(name for name in zoneinfo.available_timezones() if name.split("/")[0] in places))


def is_known(name: str) -> bool:
    """Whether a zone of that name can be shown."""
    return name in names()


def current() -> str:
    """The name of the zone in which this request's times are shown."""
    return str(_current.get()) if _current.get() is not dt.UTC else UTC


def shown(at: dt.datetime) -> dt.datetime:
    """The same moment on the reader's clock; the last and first day that there are stay in UTC where the clock has none."""
    try:
        return at.astimezone(_current.get())
    except OverflowError:
        return at


class ZoneMiddleware:
    """Takes the reader's zone from its cookie for the length of a request; an unknown one is UTC."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get(COOKIE, "")
        known = name != UTC and is_known(name)
        before = _current.set(zoneinfo.ZoneInfo(name) if known else dt.UTC)
        try:
            return self.get_response(request)
        finally:
            _current.reset(before)
