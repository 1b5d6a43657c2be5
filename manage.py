"""Django's command line with Touchstone's settings, beside a running database (the embedded one when none is given)."""

import os
import sys

from django.core.management import execute_from_command_line

# The owner changes tables, the store role signs and seals; everything else runs with the rights of the web.
ROLES = {
    **dict.fromkeys(("setup", "migrate", "flush", "sqlflush"), "owner"),
    **dict.fromkeys(
        "keeper steward checkpoint timestamp seal merge extract pack proof report retention erase hold key alarm worker".split(),
        "store",
    ),
}


def main() -> None:
    """Run one command; the embedded server lives at least as long."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["TOUCHSTONE_DB_ROLE"] = ROLES.get("".join(sys.argv[1:2]), "web")
    from django.conf import settings

    from config import embedded

    with embedded.in_use(settings.DATA_DIR):
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
