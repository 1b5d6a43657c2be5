"""Short words after something was done, shown once on the next page; each explains, and may offer the way back."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest


def say(request: HttpRequest, text: str, undo: str = "", fields: dict[str, str] | None = None) -> None:
    """Shows `text` on the next page; with `undo`, the address of a form that takes it back and the fields to send."""
    messages.info(request, text, extra_tags=json.dumps({"undo": undo, "fields": fields or {}}))


def said(request: HttpRequest) -> list[dict[str, Any]]:
    """What is to be said now: text, undo, fields. Each is said once."""
    return [{"text": str(one), **json.loads(one.extra_tags or "{}")} for one in messages.get_messages(request)]
