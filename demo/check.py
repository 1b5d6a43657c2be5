"""`bin/demo --check`: one line for each promise, with what was seen.

The store is asked through its API, its command line and its pages, as a customer would. What really happened comes from
the order database itself: a second logical slot, read by PostgreSQL's own decoder, and the transaction ids that the
actors noted.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg

from demo import auditor, evidence, gateway, hiding, oncall, papers, readers, shop, simulated
from demo.monitored import Monitored
from demo.promises import Broken, Promise, Untested, expect
from demo.store import PATIENCE_SECONDS

if TYPE_CHECKING:
    from demo.run import Demo

PRODUCTION = "environment:production"
VISIBLE_SECONDS = 5
Rows = list[dict[str, Any]]


def remember_truth(monitored: Monitored) -> None:
    """Begin to keep what really changes: a slot of PostgreSQL's own test decoder, where the server has it."""
    if monitored.has_pgaudit:
        with monitored.connect(shop.DATABASE) as connection:
            connection.execute("select pg_create_logical_replication_slot('truth', 'test_decoding')")


def truth(demo: Demo) -> Counter[str]:
    """Rows changed by transaction id, as the order database's own decoder tells."""
    with demo.monitored.connect(shop.DATABASE) as connection:
        found = connection.execute(
            "select xid::text, count(*) from pg_logical_slot_peek_changes('truth', null, null, 'include-timestamp', 'off')"
            " where data like 'table %' group by 1"
        )
        return Counter({str(xid): int(count) for xid, count in found})


def noted(demo: Demo) -> Counter[str]:
    """The same as the actors counted it."""
    return Counter({deed.xid: deed.rows for deed in list(demo.book.deeds) if deed.committed and deed.rows})


def seen(demo: Demo) -> Rows:
    """Every change that the store tells of."""
    return demo.store.ask_all("events", q=f"kind:change {PRODUCTION}")


def settle(demo: Demo) -> None:
    """Wait until the store has what was done so far, with patience."""
    wanted = noted(demo)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not demo.stopping.wait(0.5):
        # The rows come from change capture, who changed them from the gateway: either may be first.
        rows = seen(demo)
        have = Counter(row["transaction_id"] for row in rows)
        unnamed = {row["transaction_id"] for row in rows if row["attribution"] != "gateway"}
        through = {deed.xid for deed in list(demo.book.deeds) if deed.attribution == "gateway"}
        if all(have[xid] == rows for xid, rows in wanted.items()) and not unnamed & through & wanted.keys():
            return


def run(demo: Demo) -> int:
    """Test every promise. Returns 0 only if all were tested and held."""
    outcomes = [_try(demo, promise) for promise in PROMISES]
    held, untested = outcomes.count("held"), outcomes.count("not tested")
    sys.stdout.write(f"{held} of {len(outcomes)} promises held, {untested} not tested here\n")
    return 0 if held == len(outcomes) else 1


def _try(demo: Demo, promise: Promise) -> str:
    began = time.monotonic()
    try:
        outcome, what = "held", promise.test(demo)
    except Untested as reason:
        outcome, what = "not tested", str(reason)
    except (Broken, RuntimeError, OSError, KeyError, IndexError, StopIteration, psycopg.Error) as error:
        outcome, what = "BROKEN", f"{type(error).__name__}: {error}"
    sys.stdout.write(f"{outcome:10}  {promise.words}: {what} ({time.monotonic() - began:.0f} s)\n")
    sys.stdout.flush()
    return outcome


def every_row(demo: Demo) -> str:
    """Rows per committed transaction, database against store; the rolled-back one nowhere."""
    done = noted(demo)
    real = truth(demo) if demo.monitored.has_pgaudit else done
    have: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and any(have[xid] != rows for xid, rows in real.items()):
        have = Counter(row["transaction_id"] for row in seen(demo))
        time.sleep(0.5)
    different = {xid: (rows, have[xid]) for xid, rows in real.items() if have[xid] != rows}
    expect(not different, f"transactions whose rows differ (database, store): {different}")
    expect(done - real == Counter(), "the actors changed rows that the database's decoder does not tell of")
    bulk, undone = demo.book.find("bulk-update"), demo.book.find("rolled-back")
    expect(have[bulk.xid] == 5_000, f"the bulk update shows {have[bulk.xid]} rows")
    expect(have[undone.xid] == 0, f"the rolled-back transaction shows {have[undone.xid]} rows")
    judge = "its own decoder" if demo.monitored.has_pgaudit else "the actors"
    return f"{sum(real.values())} rows in {len(real)} transactions, as {judge} counted; bulk 5000, rolled back 0"


def every_person(demo: Demo) -> str:
    """Each change by a person carries that person, and the reason why we believe it."""
    by_xid: dict[str, Rows] = {}
    for row in seen(demo):
        by_xid.setdefault(row["transaction_id"], []).append(row)
    people = Counter[str]()
    for deed in demo.book.deeds:
        if not deed.rows or not deed.committed or deed.label in ("service", "false-claim"):
            continue
        for row in by_xid[deed.xid]:
            expect(row["who_name"] == deed.person or row["who_id"] == deed.person, f"{deed.label}: {row['who_name']}")
            expect("suspected_forgery" not in row["flags"], f"{deed.label}: flagged {row['flags']}")
            expect(
                row["attribution"] == deed.attribution,
                f"{deed.label}: believed by {row['attribution']}, not {deed.attribution}",
            )
        people[f"{deed.person} ({deed.attribution})"] += len(by_xid[deed.xid])
    return ", ".join(f"{person} {count}" for person, count in people.items())


def false_claim(demo: Demo) -> str:
    """The claim of an ordinary login changes nothing but a flag."""
    deed = demo.book.find("false-claim")
    (row,) = demo.store.ask_all("events", q=f"kind:change transaction:{deed.xid} {PRODUCTION}")
    expect("suspected_forgery" in row["flags"], f"flags are {row['flags']}")
    expect(row["who_id"] == "warehouse-terminal", f"shown as {row['who_id']}")
    return f"shown as {row['who_name']}, flagged suspected_forgery"


def agent(demo: Demo) -> str:
    """What the agent did, and for whom."""
    told = demo.store.ask_all("events", q=f"agent:insight-agent {PRODUCTION}")
    rows = [row for row in told if row["kind"] in ("query", "change")]
    expect(any(row["op"] == "export" for row in rows), "no export by the agent")
    deletes = [row for row in rows if row["kind"] == "change" and row["op"] == "delete"]
    expect(len(deletes) == demo.book.find("agent-delete").rows, f"{len(deletes)} deletes")
    behalf = {row["on_behalf_of"] for row in rows}
    expect(behalf == {"dana@shop.example"}, f"on behalf of {behalf}")
    return f"{len(rows)} records, export and {len(deletes)} deletes, all for dana@shop.example"


def refused(demo: Demo) -> str:
    """The database's refusal is a blocked access."""
    rows = demo.store.ask_all("events", q=f"verdict:blocked db_user:reporting {PRODUCTION}")
    expect(any(row["error_code"] == "42501" for row in rows), f"{len(rows)} blocked records, none with 42501")
    return f"42501 for {rows[0]['who_name']}, blocked"


def one_customer(demo: Demo) -> str:
    """Who touched customer 4711: reads and writes, names, statement, before and after."""
    answer = demo.store.ask(f"relations/{shop.DATASOURCE}/public.customers/rows/4711", q=PRODUCTION)
    changed = [row for row in answer["changed"] if row["transaction_id"] == demo.book.find("support-phone").xid]
    expect(len(changed) == 1, f"{len(changed)} changes of the phone number")
    phone = next(part for part in changed[0]["diff"] if part["column"] == "phone")
    expect(phone["after"] == "+46 8 555 0199" and phone["before"], f"the diff is {phone}")
    if not demo.monitored.has_pgaudit:
        raise Untested("the change is right, but without pgAudit the database does not tell who read")
    readers = {row["who_name"] for row in answer["read"]}
    expect("Alice Adler" in readers, f"read by {readers}")
    return (
        f"read by {', '.join(sorted(readers))}; phone {phone['before']} -> {phone['after']} by {changed[0]['who_name']}"
    )


def approvals(demo: Demo) -> str:
    """The four tickets."""
    states = {row["ticket"]: row["state"] for row in demo.store.ask_all("approvals")}
    wanted = {"OPS-42": "good", "OPS-43": "self_approved", "OPS-44": "late", "OPS-45": "missing"}
    found = {ticket: states.get(ticket) for ticket in wanted}
    expect(found == wanted, f"{found}")
    return ", ".join(f"{ticket} {state}" for ticket, state in found.items())


def out_of_hours(demo: Demo) -> str:
    """The schema change is a finding."""
    if not demo.monitored.has_pgaudit:
        raise Untested("without pgAudit the database does not tell of schema changes")
    findings = demo.store.ask("findings", limit="1000")["items"]
    found = [row for row in findings if "hours" in row["rule"] and "Carol" in row["sentence"]]
    expect(bool(found), f"rules found: {sorted({row['rule'] for row in findings})}")
    return str(found[0]["sentence"])


def kept_apart(demo: Demo) -> str:
    """Generated records stand in their own environment only."""
    if not demo.generated:
        raise Untested("the generated days were left out")
    datasources = {row["datasource"] for row in demo.store.ask_all("relations", q=PRODUCTION)}
    expect(simulated.DATASOURCE not in datasources, "generated records among the real ones")
    return f"{demo.simulated_events} generated records, all in environment {simulated.ENVIRONMENT}"


def visitor(demo: Demo) -> str:
    """A visitor's own UPDATE is on the page within five seconds."""
    value = f"555-{int(time.time()) % 10_000:04d}"
    page = evidence.Browser(demo.store.url, "auditor@shop.example", demo.signins["auditor@shop.example"])
    with psycopg.connect(demo.shop.dsn("visitor")) as connection:
        connection.execute("update customers set phone = %s where id = 42", [value])
    began = time.monotonic()
    while value not in page.get_if_there(f"/tables/{shop.DATASOURCE}/public.customers/rows/42/"):
        expect(time.monotonic() - began < VISIBLE_SECONDS * 4, "not on the page after 20 seconds")
        time.sleep(0.2)
    took = time.monotonic() - began
    expect(took <= VISIBLE_SECONDS, f"on the page only after {took:.1f} s")
    return f"on the row's page after {took:.1f} s"


def _promise(words: str, test: Callable[[Demo], str]) -> Promise:
    return Promise(words, test)


PROMISES = [
    _promise("Every row that a committed transaction changed is a record, no other is", every_row),
    _promise("Every change by a person names the person and says why we believe it", every_person),
    _promise("A false claim is flagged and not believed", false_claim),
    _promise("The agent's work names the analyst behind it", agent),
    _promise("What the database refused is blocked", refused),
    _promise("Who touched customer 4711", one_customer),
    _promise("Approvals: good, one's own, late, missing", approvals),
    _promise("A schema change outside working hours is a finding", out_of_hours),
    _promise("Generated records stay apart", kept_apart),
    _promise("A visitor's UPDATE is on the page within 5 s", visitor),
    *oncall.PROMISES,
    *gateway.PROMISES,
    *auditor.PROMISES,
    *evidence.PROMISES,
    *papers.PROMISES,
    *hiding.PROMISES,
    *readers.PROMISES,
]
