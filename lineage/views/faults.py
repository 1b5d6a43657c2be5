"""Answers where no view answers: each a page with what happened, what to do, and an id (or the same as JSON)."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from lineage import errors
from lineage.answers import error_answer, wants_json


class PageInvalid(errors.TouchstoneError):
    code = "request-invalid"
    status = 400
    default = "The request cannot be read. Go back, reload the page and try again; nothing was changed."


class PageForbidden(errors.AccessDenied):
    default = "This is not open to you. Sign in with another account or ask an administrator."


class FormExpired(errors.AccessDenied):
    code = "form-expired"
    default = (
        "The form was open too long or came from elsewhere. Nothing was changed: reload the page and send it again."
    )


class PageUnknown(errors.NotFound):
    default = "There is no page at this address. Check the address, or search for what you are after."


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_answer(request, PageInvalid())


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_answer(request, PageForbidden())


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    if wants_json(request):
        # What takes a body there takes a token, never a browser's session: this address is only read.
        answer = error_answer(request, errors.MethodUnknown())
        answer["Allow"] = "GET"
        return answer
    return error_answer(request, FormExpired())


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return error_answer(request, PageUnknown())


def server_error(request: HttpRequest) -> HttpResponse:
    return error_answer(request, errors.TouchstoneError())
