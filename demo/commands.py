"""Several of the store's commands in one process, because each start of one costs seconds.

Reads a JSON list of word lists on stdin, runs each as `bin/manage` would, prints the JSON list of what they printed.
"""

from __future__ import annotations

import io
import json
import os
import sys


def main() -> None:
    """Run all; the first that fails ends this with its own message and status."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.management import call_command

    django.setup()
    printed = []
    for words in json.load(sys.stdin):
        out = io.StringIO()
        call_command(*words, stdout=out)
        printed.append(out.getvalue().strip())
    sys.stdout.write(json.dumps(printed))


if __name__ == "__main__":
    main()
