"""The promises about what is taken away: values that two people erase, and a DBA who hides and puts things back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from demo import evidence, shop
from demo.promises import Promise, expect

if TYPE_CHECKING:
    from demo.run import Demo

CUSTOMER = "42"
ASKED = f"relation:customers key:{CUSTOMER} environment:production"
PATIENCE_SECONDS = 120


def erased(demo: Demo) -> str:
    """One person asks, another approves; the values are gone, and the pack from before still verifies."""
    old, new, policy = (demo.folder / name for name in ("before.touchstone.zip", "after.touchstone.zip", "policy"))
    demo.store.manage("pack", ASKED, "--out", str(old))
    phone, place = _phone(demo), demo.store.ask("events", q=ASKED, limit="1")["items"][0]["index"]
    asker = demo.store.manage("user", "add", "compliance@shop.example", "--role", "compliance", "--token")
    words = ["erase", "request", ASKED, "--groups", "statement,change"]
    words += ["--reason", "the customer asks for it", "--ground", "GDPR Art. 17(1)(b)"]
    number = demo.store.manage(*words, TOUCHSTONE_TOKEN=asker)
    try:
        demo.store.manage("erase", "approve", number, TOUCHSTONE_TOKEN=asker)
    except RuntimeError as refusal:
        expect("access-denied" in str(refusal), f"the asker's own approval was refused otherwise: {refusal}")
    else:
        expect(False, "one person alone erased")
    state = demo.store.manage("erase", "approve", number, TOUCHSTONE_TOKEN=demo.store.token)
    expect(_phone(demo) is None, "the row's page still shows the values")
    before = evidence.verify(old, policy)
    expect(before.returncode == 0, f"the pack from before: exit {before.returncode}, {before.stdout[-400:]}")
    # By its place: the key itself is among what was erased.
    demo.store.manage("pack", f"index:>={place} index:<={place}", "--out", str(new))
    after = evidence.verify(new, policy)
    found = [line for line in after.stdout.splitlines() if " erased" in line]
    expect(after.returncode == 0 and bool(found), f"the new pack: exit {after.returncode}, {after.stdout[-600:]}")
    expect(str(phone).encode() not in new.read_bytes(), "the new pack holds the value")
    return f"{state.splitlines()[0]}; the pack from before still gives exit 0, a new one says {found[0].partition(': ')[2]}"


def _phone(demo: Demo) -> str | None:
    """The newest phone number that the row's history shows."""
    answer = demo.store.ask(f"relations/{shop.DATASOURCE}/public.customers/rows/{CUSTOMER}", q="environment:production")
    parts: list[dict[str, Any]] = [part for row in answer["changed"] for part in row["diff"] or ()]
    return next((part["after"] for part in parts if part["column"] == "phone" and part.get("after")), None)


def put_back(demo: Demo) -> str:
    """A superuser lessens what the capture sends and undoes it at once; it is a finding all the same."""
    with demo.monitored.connect(shop.DATABASE) as connection, connection.transaction():
        connection.execute("alter publication touchstone set (publish = 'insert')")
        connection.execute("alter publication touchstone set (publish = 'insert, update, delete, truncate')")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        findings = demo.store.ask("findings", limit="1000")["items"]
        found = [row for row in findings if row["rule"] == "capture-weakened"]
        if found:
            return str(found[0]["sentence"])
        expect(time.monotonic() < deadline, f"rules found: {sorted({row['rule'] for row in findings})}")
        time.sleep(2)


PROMISES = [
    Promise("Two people erase a customer's values, and old proofs still hold", erased),
    Promise("A DBA who weakens the capture and puts it back is found", put_back),
]
