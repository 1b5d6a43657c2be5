"""The promises about evidence: proofs, packs, the report; and a plain browser to look at pages with."""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.promises import Promise, Untested, expect
from demo.store import BASE_DIR, PATIENCE_SECONDS

if TYPE_CHECKING:
    from demo.run import Demo


class Browser:
    """A signed-in session on the pages."""

    token = ""

    def __init__(self, url: str, email: str, password: str) -> None:
        self.url = url
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(jar)
        self.get("/accounts/login/")
        self.post("/accounts/login/", {"email": email, "username": email, "password": password})

    def get(self, path: str) -> str:
        """The page's HTML."""
        html = self.download(path).decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', html)
        self.token = token[1] if token else self.token
        return html

    def download(self, path: str) -> bytes:
        """What lies at an address."""
        with self._opener.open(self.url + path, timeout=PATIENCE_SECONDS) as answer:
            return bytes(answer.read())

    def post(self, path: str, fields: Mapping[str, str]) -> None:
        """Send a form of the page that was got last."""
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": self.token} | dict(fields)).encode()
        request = urllib.request.Request(self.url + path, body)  # noqa: S310
        request.add_header("Referer", self.url + path)
        with self._opener.open(request, timeout=PATIENCE_SECONDS):
            pass

    def get_if_there(self, path: str) -> str:
        """The page's HTML; nothing while the store knows of nothing there."""
        try:
            return self.get(path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return ""


def verify(file: Path, policy: Path) -> subprocess.CompletedProcess[str]:
    """The offline verifier, as an auditor runs it."""
    command = [sys.executable, "-m", "lineage.verify", str(file), "--policy", str(policy)]
    return subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)


def pack(demo: Demo) -> str:
    """A pack of everything real proves itself under the printed policy."""
    policy, file = demo.folder / "policy", demo.folder / "pack.touchstone.zip"
    policy.write_text(demo.store.manage("policy") + "\n")
    demo.store.manage("pack", "environment:production", "--out", str(file))
    done = verify(file, policy)
    expect(done.returncode == 0, f"exit {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}")
    return f"{file.stat().st_size:,} bytes, exit 0; {done.stdout.strip().splitlines()[-1]}"


def tampered(demo: Demo) -> str:
    """One byte changed anywhere makes the verifier refuse."""
    original = (demo.folder / "pack.touchstone.zip").read_bytes()
    copy = demo.folder / "tampered.touchstone.zip"
    places = [len(original) * part // 4 for part in (1, 2, 3)]
    for place in places:
        copy.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
        status = verify(copy, demo.folder / "policy").returncode
        expect(status in (1, 3), f"a copy with byte {place} changed got exit {status}")
    return f"{len(places)} copies with one byte changed each, all refused"


def outside_clock(demo: Demo) -> str:
    """A timestamp authority states a time for a checkpoint, and the verifier believes it under the printed policy."""
    if "TOUCHSTONE_TSA" not in demo.store.environment:
        raise Untested("the program openssl, which plays the authority here, is not installed")
    demo.store.manage("checkpoint")
    said = demo.store.manage("timestamp")
    policy, file = demo.folder / "policy", demo.folder / "stamped.touchstone.zip"
    policy.write_text(demo.store.manage("policy") + "\n")
    demo.store.manage("pack", "relation:customers key:4711 environment:production", "--out", str(file))
    done = verify(file, policy)
    found = [line for line in done.stdout.splitlines() if line.startswith("13. pass")]
    expect(
        done.returncode == 0 and bool(found), f"exit {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}"
    )
    return f"{said}; the verifier: {found[0].partition(': ')[2]}"


def whole_log(demo: Demo) -> str:
    """Tree and segments agree with the leaves."""
    return demo.store.manage("fsck").splitlines()[-1]


def report(demo: Demo) -> str:
    """The report of the demo's own period: signed, intact, final, with the store's counts."""
    (pdf,) = demo.reports.glob("*.pdf")
    signed = subprocess.run(
        [sys.executable, "-c", _SIGNATURE, str(pdf)], cwd=BASE_DIR, env=demo.store.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expect(signed.returncode == 0, f"signature: {(signed.stdout + signed.stderr).strip()[-400:]}")
    summary: dict[str, Any] = json.loads(pdf.with_suffix(".json").read_text())
    period = {"since": summary["period"]["from"], "until": summary["period"]["to"]}
    changed = demo.store.ask("events", q="kind:change environment:production", limit="1", **period)["total"]
    counts = summary["counts"]
    expect(
        counts["row_changes"] == changed["value"],
        f"{counts['row_changes']} in the report, {changed['value']} in the store",
    )
    expect(summary["status"] == "final", f"{summary['status']}: {summary['reasons']}")
    told = f"{counts['population']} accesses, {counts['row_changes']} row changes, {counts['items']} privileged"
    return f"{pdf.name} is final, signed and whole: {told}; the store tells the same"


_SIGNATURE = """
import sys, os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
import django; django.setup()
from pathlib import Path
from reports import signing
verdict = signing.check(Path(sys.argv[1]).read_bytes())
print(verdict)
sys.exit(0 if verdict.intact and verdict.trusted and verdict.whole_file else 1)
"""

PROMISES = [
    Promise("Every proof is valid under the printed policy", pack),
    Promise("A tampered pack is refused", tampered),
    Promise("An outside clock vouches for a checkpoint", outside_clock),
    Promise("The whole log agrees with itself", whole_log),
    Promise("A signed report of the demo's own period, with the store's counts", report),
]
