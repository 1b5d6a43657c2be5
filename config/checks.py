"""What `manage.py` says before it does anything, where settings do not go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


@checks.register
def openid_is_whole(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    fault = settings.OPENID.fault
    hint = (
        "Set issuer, client id and client secret (or its _FILE) together, the issuer exactly as the provider's discovery "
        "names it, or none of them: docs/settings.md."
    )
    return [checks.Error(fault, hint=hint, id="touchstone.E001")] if fault else []


@checks.register
def backlog_leaves_room_to_seal(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    if settings.BACKLOG_EVENTS >= 2 * settings.SEAL_EVENTS:
        return []
    fault = "TOUCHSTONE_BACKLOG_EVENTS is less than twice TOUCHSTONE_SEAL_EVENTS: sources would wait for a seal that is not due."
    return [checks.Error(fault, hint="Raise the first or lower the second: docs/settings.md.", id="touchstone.E002")]
