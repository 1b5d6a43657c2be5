"""Ready lines for clients: how psql, psycopg, SQLAlchemy and JDBC reach a database behind a gateway. Pure.

No line holds the token: libpq reads it from PGPASSWORD, and what stands in an address is kept in histories and logs.
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import quote, urlencode

from psycopg.conninfo import make_conninfo


def lines(host: str, port: int, database: str, user: str) -> dict[str, str]:
    """Client -> its line, for a shell or program that has the token in PGPASSWORD; JDBC takes it as its password."""
    info = make_conninfo(host=host, port=port, dbname=database, user=user, sslmode="verify-full")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = f"{address}/{quote(database, safe='')}"
    jdbc = urlencode({"user": user, "sslmode": "verify-full"}, quote_via=quote)
    return {
        "psql": f"psql {_shell(info)}",
        "psycopg": f"psycopg.connect({info!r})",
        "sqlalchemy": f'create_engine("postgresql+psycopg://{quote(user, safe="")}@{path}?sslmode=verify-full")',
        "jdbc": f"jdbc:postgresql://{path}?{jdbc}",
    }


def for_shell(token: str, line: str) -> str:
    """The line for psql with the token in its environment."""
    return f"PGPASSWORD={shlex.quote(token)} {line}"


def _shell(text: str) -> str:
    """One word for a shell, in double quotes where nothing in it means anything there."""
    return f'"{text}"' if re.fullmatch(r"[\w=.@: /+-]*", text, re.ASCII) else shlex.quote(text)
