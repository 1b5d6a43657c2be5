"""The promises about the gateway: what it refused, masked, held, and who went around it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

from demo import shop
from demo.actors import BULK
from demo.door import APPROVER
from demo.promises import Promise, expect

if TYPE_CHECKING:
    from demo.run import Demo

PATIENCE_SECONDS = 240
AGENT_ROWS = 500
"""What the profile that is built in lets an agent read of personal data at a time."""


def drop(demo: Demo) -> str:
    """The owner's DROP is refused by its rule, the table is there, and the database's own log never saw it."""
    deed = demo.book.find("drop")
    expect(deed.error == "42501", f"the DROP ended with {deed.error or 'success'}")
    with demo.monitored.connect(shop.DATABASE) as connection:
        rows = connection.execute("select count(*) from notes").fetchone()
    told = [row for row in _told(demo, "verdict:blocked") if row["statement"] == "drop table notes"]
    expect([row["who_name"] for row in told] == ["Carol Chen"], f"told as {told}")
    expect(_rules(told[0]) == {"no-drop"}, f"refused by {_rules(told[0])}")
    expect(told[0]["source"] == "shop-gateway", "the database's own log saw it")
    return f"for {told[0]['who_name']}, by rule no-drop; the table has its {rows[0] if rows else 0} rows, the database never saw it"


def masked(demo: Demo) -> str:
    """The whole list is more than an agent may have; the part that it got holds no name and no address of anybody."""
    whole, got = demo.book.find("agent-export"), demo.actors.exported
    expect(bool(whole.error), "the agent got the whole list")
    expect(0 < len(got) <= AGENT_ROWS, f"the agent got {len(got)} rows")
    with demo.monitored.connect(shop.DATABASE) as connection:
        real = {key: values for key, *values in connection.execute("select id, name, email from customers")}
    clear = [row for row in got if set(row[1:]) & set(real[row[0]])]
    expect(not clear, f"{len(clear)} rows in clear")
    told = [
        row
        for row in _told(demo, "agent:insight-agent")
        if row["verdict"] == "masked" and row["rows_returned"] == len(got)
    ]
    expect(len(told) == 1, f"told {len(told)} times")
    types = {one["name"]: one["count"] for one in told[0]["masked"]["types"]}
    return (
        f"all of them: refused ({whole.error}); {len(got)}: came, as {got[0][1]}, {got[0][2]}; told as masked {types}"
    )


def held(demo: Demo) -> str:
    """Erin's bulk update and the agent's deletion waited; another person approved; they ran once, as approved."""
    asked = {row["request_id"]: row for row in demo.store.ask("gateway/held")["items"]}
    seen = []
    for label, statement, by in (
        ("bulk-update", BULK, "erin@shop.example"),
        ("agent-delete", "delete", "insight-agent"),
    ):
        deed = demo.book.find(label)
        expect(deed.error == "42501" and deed.committed, f"{label}: {deed}")
        row = asked[deed.request]
        expect(
            row["state"] == "used" and row["decided_by"] == APPROVER, f"{label}: {row['state']} by {row['decided_by']}"
        )
        expect(str(row["statement"]).startswith(statement), f"{label}: {row['statement']}")
        ran = [
            one for one in _told(demo, "verdict:approved") if (one["approval"] or {}).get("request_id") == deed.request
        ]
        seen.append(f"{by}: {row['rule']}, estimated {row['estimated_rows']} rows, {deed.rows} ran")
        expect(len(ran) == 1 and ran[0]["rows_affected"] == deed.rows, f"{label} ran {len(ran)} times")
    return f"{'; '.join(seen)}; approved by {APPROVER}"


def around(demo: Demo) -> str:
    """Bob's own session to the database is a finding; what went through the gateway or may go around it is none."""
    deed = demo.book.find("around")
    expect(deed.committed, "the database did not let him")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        findings = demo.store.ask("findings", limit="1000")["items"]
        found = [row["sentence"] for row in findings if row["rule"] == "around-the-gateway"]
        his = [sentence for sentence in found if deed.xid in sentence]
        if his:
            break
        expect(time.monotonic() < deadline, f"rules found: {sorted({row['rule'] for row in findings})}")
        time.sleep(2)
    others = [sentence for sentence in found if " bob " not in f" {sentence}"]
    expect(not others, f"others were found too: {others}")
    return str(his[0])


def by_hand(demo: Demo) -> str:
    """What is printed for the visitor works as printed, with a token of their own, and the rules hold for them."""
    read = _psql(demo, "-X", "-A", "-t", "-c", "select id, email from customers where id = 4711")
    expect(read.stdout.strip() == "4711|maria.lindqvist@mail.example", f"psql says {read.stdout} {read.stderr}")
    emptied = _psql(demo, "-X", "-c", "truncate notes")
    expect(emptied.returncode != 0 and "no-truncate" in emptied.stderr, f"TRUNCATE: {emptied.stdout} {emptied.stderr}")
    return f"reads {read.stdout.strip()}; {emptied.stderr.strip().splitlines()[0]}"


def _psql(demo: Demo, *words: str) -> subprocess.CompletedProcess[str]:
    script = str(demo.folder / "gateway.psql")
    return subprocess.run(["sh", script, *words], capture_output=True, text=True, check=False, timeout=120)


def _told(demo: Demo, query: str) -> list[dict[str, Any]]:
    return [row for row in demo.store.ask_all("events", q=f"{query} environment:production") if row["kind"] == "query"]


def _rules(row: dict[str, Any]) -> set[str]:
    return {policy["rule"] for policy in row["policy"]}


PROMISES = [
    Promise("A DROP is refused before the database sees it", drop),
    Promise("The agent's list of customers is short and masked", masked),
    Promise("What needs another person waits for one, and runs as approved", held),
    Promise("An attempt around the gateway is found", around),
    Promise("The visitor's psql through the gateway works, under the same rules", by_hand),
]
