"""The promises about the four readers: each gets an answer from the overview on, by links and forms that stand on the pages.

Nothing here knows an address: a reader without JavaScript follows what the page offers, and the clicks are counted.
What really happened is taken from the actors' book.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import html
import io
import json
import re
import time
import urllib.parse
import zipfile
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import psycopg

from demo import shop
from demo.actors import AGENT
from demo.evidence import Browser
from demo.promises import Promise, expect

if TYPE_CHECKING:
    from demo.run import Demo

CLICKS_MOST = 3
CUSTOMER = "4711"
RELATION = "public.customers"
TABLE = f"{shop.DATASOURCE} / {RELATION}"
APPROVED = "new-name"
"""The deed of which the auditor asks."""
SEARCH = f"relation:customers key:{CUSTOMER} kind:change"
SAVED = f"Changes of customer {CUSTOMER}"
QUARTERLY = "Who changed the structure of databases?"
CAPTURE = "shop-changes"
LOST = "Changes between are missing"
PATIENCE_SECONDS = 120


class Page(HTMLParser):
    """The links and forms that stand on a page, and its text without marks."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self._link: tuple[str, str] | None = None
        self._words: list[str] = []
        self._select = ""
        self.source = source
        self.feed(source)
        self.text = text(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._link, self._words = (given.get("href", ""), given.get("aria-label", "")), []
        elif tag == "form":
            self.forms.append((given.get("action", ""), {}))
        elif tag == "select":
            self._select = given.get("name", "")
        elif self.forms:
            self._field(tag, given)

    def _field(self, tag: str, given: dict[str, str]) -> None:
        """What the form sends as it stands: no box that is not ticked, of a choice the chosen or the first."""
        fields = self.forms[-1][1]
        if tag == "input" and given.get("name") and (given.get("type") != "checkbox" or "checked" in given):
            fields.setdefault(given["name"], given.get("value", ""))
        elif tag == "option" and (self._select not in fields or "selected" in given):
            fields[self._select] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self._words.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:
            self.links.append((*self._link, " ".join("".join(self._words).split())))
            self._link = None

    def form(self, field: str) -> tuple[str, dict[str, str]]:
        """The last form with such a field. Broken: there is none."""
        found = [one for one in self.forms if field in one[1]]
        expect(bool(found), f"no form with “{field}” stands on the page")
        return found[-1]


class Reader:
    """Somebody signed in, at the overview; `clicks` since then."""

    def __init__(self, demo: Demo, role: str) -> None:
        email = f"{role}@shop.example"
        self.browser = Browser(demo.store.url, email, demo.signins[email])
        self.home()

    def home(self) -> None:
        self.clicks, self.address, self.page = 0, "/", Page(self.browser.get("/"))

    def click(self, words: str, place: str = "/") -> None:
        """Follow the first link that is called so and leads to such a place. Broken: none stands on this page."""
        found = [href for href, label, said in self.page.links if words in (said, label) and href.startswith(place)]
        expect(bool(found), f"no link “{words}” on {self.address}")
        self._go(found[0])

    def ask(self, field: str, **values: str) -> None:
        """Send a form of the page, as a click on its button does."""
        action, fields = self.page.form(field)
        self._go(f"{action}?{urllib.parse.urlencode(fields | values)}")

    def _go(self, address: str) -> None:
        self.clicks += 1
        self.address = urllib.parse.urljoin(self.address, address)
        self.page = Page(self.browser.get(self.address))

    def export(self) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """Manifest and lines of what the page shows, after the file's hash was held against the manifest."""
        action, fields = next(one for one in self.page.forms if "as_of" in one[1])
        asked = urllib.parse.urlencode(fields | {"format": "csv"})
        return exported(self.browser.download(f"{urllib.parse.urljoin(self.address, action)}?{asked}"))


def text(source: str) -> str:
    """What a reader sees of HTML, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", source)).split())


def exported(body: bytes) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Manifest and lines of an exported CSV. Broken: the manifest's hash is not that of the file."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        file = archive.read(manifest["file"]["name"])
    expect(hashlib.sha256(file).hexdigest() == manifest["file"]["sha256"], "the file's hash is not the manifest's")
    lines = list(csv.DictReader(io.StringIO(file.decode("utf-8-sig"))))
    expect(
        len(lines) == manifest["rows"]["count"], f"{len(lines)} lines, the manifest says {manifest['rows']['count']}"
    )
    return manifest, lines


def lose_changes(connection: psycopg.Connection[Any]) -> None:
    """Drop the slot of change capture under its collector: what changes until a new one stands is never told."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'touchstone' and active"
        )
        try:
            connection.execute("select pg_drop_replication_slot('touchstone')")
        except psycopg.errors.ObjectInUse:
            expect(time.monotonic() < deadline, "the slot stayed in use")
            time.sleep(0.05)
        else:
            return


def quarter(at: dt.datetime) -> str:
    """The quarter of a time as the page calls it."""
    return f"{at.year}-Q{(at.month + 2) // 3}"


def auditor(demo: Demo) -> str:
    """Who changed customer 4711, and who approved it: from the overview by three links."""
    deed, reader = demo.book.find(APPROVED), Reader(demo, "auditor")
    reader.click("Tables")
    reader.click(RELATION, f"/tables/{shop.DATASOURCE}/")
    reader.click(CUSTOMER)
    expect(reader.clicks <= CLICKS_MOST, f"{reader.clicks} clicks")
    versions = re.findall(r'<li class="version.*?(?=<li class="version|</ol>)', reader.page.source, re.DOTALL)
    (mine,) = [one for one in versions if f">{deed.xid}</a>" in one]
    told = text(mine)
    for wanted in (
        deed.person,
        "approved in time by erin@shop.example",
        "Maria Lindqvist",
        "set name = 'Maria Bergman'",
    ):
        expect(wanted in told or wanted in urllib.parse.unquote(mine), f"“{wanted}” does not stand there: {told}")
    return (
        f"{reader.clicks} clicks (Tables › {TABLE} › {CUSTOMER}): {deed.person}, approved in time by erin@shop.example"
    )


def security(demo: Demo) -> str:
    """Everything that an agent's run touched, by one search from the overview."""
    reader = Reader(demo, "security")
    reader.ask("q", q=f"run:{AGENT['run_id']}")
    deleted = sum(deed.rows for deed in list(demo.book.deeds) if deed.login == "analyst_agent" and deed.committed)
    counts = dict(re.findall(r'<a href="[^"]*">([^<]+)</a> <span class="n">([\d,]+)</span>', reader.page.source))
    expect(counts.get("change") == f"{deleted:,}", f"{counts.get('change')} changes, {deleted} rows were deleted")
    for table in ("public.customers", "public.notes"):
        expect(table in counts, f"{table} is missing among {sorted(counts)}")
    expect("dana@shop.example" in reader.page.text, "the page does not say for whom")
    (title,) = re.findall(r"<h1>(.*?)</h1>", reader.page.source)
    return f"{title} in one search: public.customers and public.notes, {deleted} rows deleted as done, for dana@shop.example"


def compliance(demo: Demo) -> str:
    """A search is saved, run again, exported; a question of the quarter too. The manifests' hashes hold."""
    reader = Reader(demo, "compliance")
    reader.ask("q", q=SEARCH)
    action, fields = reader.page.form("name")
    reader.browser.post(action, fields | {"name": SAVED})
    reader.home()
    for words in ("Search", "Saved searches", SAVED):
        reader.click(words)
    _, lines = reader.export()
    told = {line["transaction_id"] for line in lines}
    real = {demo.book.find(label).xid for label in ("support-phone", APPROVED)}
    expect(told == real and len(lines) == len(real), f"transactions {told}, not {real}")
    name = quarter(dt.datetime.now(dt.UTC))
    reader.home()
    reader.click("Search")
    reader.click("Twelve questions for a quarter")
    reader.ask("quarter", quarter=name)
    counts = [label for _, label, _ in reader.page.links if label.startswith(f"{QUARTERLY} {name}: ")]
    expect(len(counts) == 1, f"no count of “{QUARTERLY}” for {name}")
    reader.click(counts[0])
    manifest, answers = reader.export()
    counted = int(counts[0].rsplit(" ", 1)[1])
    expect(len(answers) == counted, f"{len(answers)} exported, {counted} counted")
    expect(any("loyalty_tier" in line["statement"] for line in answers), "the schema change is missing")
    return f"“{SAVED}” again: {len(lines)} records, as done; {counts[0]} exported, sha256 {manifest['file']['sha256'][:12]}… holds"


def operator(demo: Demo) -> str:
    """The slot of change capture is dropped: the overview names the source, and the gap stands two clicks away."""
    with demo.monitored.connect(shop.DATABASE) as connection:
        lose_changes(connection)
    began, reader = time.monotonic(), Reader(demo, "operator")
    while LOST not in reader.page.text:
        expect(time.monotonic() - began < PATIENCE_SECONDS, "the overview does not tell of it")
        time.sleep(1)
        reader.home()
    took = time.monotonic() - began
    reader.click("Integrity")
    reader.click("Gaps")
    rows = [text(row) for row in re.findall(r"<tr>.*?</tr>", reader.page.source, re.DOTALL)]
    told = [row for row in rows if LOST in row]
    mine = [row for row in told if row.startswith(f"{CAPTURE}{shop.DATASOURCE}gap")]
    expect(len(mine) == 1 and all(row.startswith(CAPTURE) for row in told), f"gaps: {rows}")
    return f"on the overview after {took:.0f} s, {reader.clicks} clicks (Integrity › Gaps): {mine[0]}"


PROMISES = [
    Promise("The auditor: who changed customer 4711 and who approved it, in three clicks", auditor),
    Promise("Security: everything that an agent's run touched, in one search", security),
    Promise("Compliance: a saved search and a quarter's question again, exported under a manifest", compliance),
    Promise("The operator: the gap after change capture lost its slot", operator),
]
