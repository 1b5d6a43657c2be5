"""Where the store's PostgreSQL is: `DATABASE_URL`, or the embedded server in the data folder.

The three database roles are owner (migrations), web (insert, select) and store (publishes segments). On the
embedded server each is a login; on a server given by `DATABASE_URL` the login takes the role on connecting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

ROLES = ("owner", "web", "store")


def settings(data: Path, role: str) -> dict[str, Any]:
    """Django's DATABASES entry for one role. ValueError names a role that does not exist."""
    if role not in ROLES:
        raise ValueError(f"TOUCHSTONE_DB_ROLE is {role!r}; it is one of {', '.join(ROLES)}")
    parts = parameters(data, role)
    options = {k: v for k, v in parts.items() if k not in ("dbname", "user", "password", "host", "port")}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.get("dbname", "touchstone"),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 5, **options},
        "TEST": {"NAME": "test_touchstone"},
    }


def parameters(data: Path, role: str) -> dict[str, Any]:
    """libpq parameters for one role."""
    url = os.environ.get("DATABASE_URL")
    if url:
        given = dict(conninfo_to_dict(url))
        if role != "owner":
            given["options"] = f"{given.get('options', '')} -c role=touchstone_{role}".strip()
        return given
    from config import embedded

    return dict(embedded.Embedded(data / "postgres").parameters(role))
