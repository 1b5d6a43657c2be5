"""`python -m tests.screenshots FOLDER [PATTERN…] [--narrow] [--dark] [--empty] [--thousand] [--admin]`: looks at the pages.

Fills a store of its own, serves it, and saves one PNG for each page of `tests.showcase.PAGES` whose name or address
holds one of the patterns (none: every page). A pattern that begins with / is an address of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests import environment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["TOUCHSTONE_HOSTS"] = "127.0.0.1,testserver"

import django
import psycopg
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, sync_playwright

from config import embedded

SETTLED_MS = 400
"""What the charts and the seal take to come."""


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--narrow", action="store_true", help="390 pixels wide instead of 1280")
    parser.add_argument("--dark", action="store_true", help="as for a reader who prefers dark pages")
    parser.add_argument("--empty", action="store_true", help="over a store that holds no record")
    parser.add_argument("--thousand", action="store_true", help="with a thousand records more")
    parser.add_argument("--admin", action="store_true", help="as an administrator instead of an auditor")
    return parser.parse_args()


def chosen(pages: dict[str, str], patterns: list[str]) -> dict[str, str]:
    own = {re.sub(r"\W+", "-", p).strip("-"): p for p in patterns if p.startswith("/") and p not in pages.values()}
    words = [p for p in patterns if p not in own.values()]
    return own | {n: a for n, a in pages.items() if any(w in n or w == a for w in words) or not patterns}


def main() -> None:
    options = parsed()
    options.folder.mkdir(parents=True, exist_ok=True)
    with embedded.in_use(environment.DATA) as server:
        django.setup()
        call_command("setup", verbosity=0)
        if server:
            with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
                admin.execute("alter system set fsync = off")
                admin.execute("select pg_reload_conf()")
        save(options)
        connections.close_all()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Signs checkpoints as the keeper does, so that the seal is not late on every picture."""
    from lineage import checkpoints

    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(2):
            checkpoints.checkpoint()
        connections.close_all()

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


def save(options: argparse.Namespace) -> None:
    from tests import serving, showcase

    now = dt.datetime.now(dt.UTC)
    showcase.people()
    if not options.empty:
        showcase.tell(now)
    if options.thousand:
        showcase.thousand(now)
    with serving.serving() as address, kept():
        cookie = showcase.cookie(showcase.ADMIN if options.admin else showcase.READER, address)
        connections.close_all()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.ARGUMENTS)
            look(browser, address, cookie, options, chosen(showcase.PAGES, options.patterns))
            browser.close()


def look(browser: Browser, address: str, cookie: object, options: argparse.Namespace, pages: dict[str, str]) -> None:
    context = browser.new_context(
        viewport={"width": 390 if options.narrow else 1280, "height": 900},
        color_scheme="dark" if options.dark else "light",
        base_url=address,
    )
    context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.on("console", lambda said: said.type == "error" and sys.stderr.write(f"{page.url}: {said.text}\n"))
    marks = "".join(f"-{word}" for word in ("narrow", "dark", "empty", "thousand", "admin") if getattr(options, word))
    for name, path in pages.items():
        page.goto(path)
        page.wait_for_timeout(SETTLED_MS)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        target = options.folder / f"{name}{marks}.png"
        page.screenshot(path=target, full_page=not options.thousand)
        sys.stdout.write(f"{target}{f'  too wide by {wide} pixels' if wide > 0 else ''}\n")


if __name__ == "__main__":
    main()
