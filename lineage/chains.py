"""From intent to row as a picture: request, approval, session, statement, rows, and how strongly each is joined. Pure.

`build` makes columns of nodes and the joins between neighbours from what `queries.chain` found; `drawn` places them.
A join is exact, or it says what it rests on, or that it is not known; nothing is joined by time or text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lineage import words

Row = Mapping[str, Any]
COLUMNS = ("Request", "Approval", "Session", "Statement", "Rows")
STRENGTHS = {
    "exact": ("●", "exact", "a record carries the id of the other"),
    "gateway": ("◆", "by the gateway", "the gateway's own record says so"),
    "proved": ("◈", "proved claim", "a message in the transaction, whose emission a trusted login's log line proves"),
    "asserted": ("○", "asserted", "somebody says so who may; nothing else proves it"),
    "parsed": ("◌", "read from the statement", "its condition names the row; no row image shows it"),
    "claimed": ("◐", "claimed", "a claim that is not proved yet"),
    "none": ("✕", "not attributed", "no record joins the two"),
}
"""Mark, word and meaning of each strength."""
CITED = {
    "gateway": "gateway", "context_message": "proved", "asserted_by_proxy": "asserted", "asserted_by_client": "asserted",
}  # fmt: skip
SHOWN = 12
FOLDED = {"more statements", "more rows"}
WIDTH, COLUMN, NODE, HEIGHT, STEP, TOP = 1184, 246, 192, 48, 62, 34


@dataclasses.dataclass
class Node:
    """One box. `kind` and `of` say where it leads; `known` is false for what no record tells."""

    id: str
    title: str
    detail: str = ""
    kind: str = ""
    of: tuple[Any, ...] = ()
    known: bool = True


@dataclasses.dataclass(frozen=True)
class Join:
    """Between two nodes of neighbouring columns: a key of `STRENGTHS`, and by what."""

    start: str
    end: str
    strength: str
    by: str

    @property
    def mark(self) -> str:
        return STRENGTHS[self.strength][0]

    @property
    def word(self) -> str:
        return STRENGTHS[self.strength][1]


@dataclasses.dataclass
class Chain:
    """Nodes by column, in order, and the joins."""

    columns: list[dict[str, Node]] = dataclasses.field(default_factory=lambda: [{} for _ in COLUMNS])
    joins: dict[tuple[str, str], Join] = dataclasses.field(default_factory=dict)
    folded: dict[str, int] = dataclasses.field(default_factory=dict)

    def put(self, column: int, node: Node) -> str:
        self.columns[column].setdefault(node.id, node)
        return node.id

    def join(self, start: str, end: str, strength: str, by: str) -> None:
        """The strongest of several says how the two are joined; of what is only counted, the weakest: it holds for all."""
        known, order = self.joins.get((start, end)), list(STRENGTHS)
        folded = bool({start, end} & FOLDED)
        by = "several joins, the weakest is named" if folded and known else by
        if known is None or folded:
            strength = max(known.strength, strength, key=order.index) if known else strength
            self.joins[start, end] = Join(start, end, strength, by)
        elif order.index(strength) < order.index(known.strength):
            self.joins[start, end] = Join(start, end, strength, by)

    def node(self, name: str) -> Node:
        return next(column[name] for column in self.columns if name in column)

    @property
    def table(self) -> list[dict[str, Any]]:
        return [{"join": j, "start": self.node(j.start), "end": self.node(j.end)} for j in self.joins.values()]


def build(found: Mapping[str, Any]) -> Chain:
    """The chain of what `queries.chain` found: at most 12 statements and 12 rows by name, the others counted."""
    chain = Chain()
    for ticket in found["cited"]:
        _intent(chain, ticket, [d for d in found["decisions"] if ticket in (d["ticket"], d["approval_request"])])
    statements = _statements(found["acts"])
    shown = set(list(statements)[:SHOWN])
    for key, lines in statements.items():
        _statement(chain, key if key in shown else "", lines, len(statements) - SHOWN)
    _rows(chain, found, statements, shown)
    return chain


def _intent(chain: Chain, ticket: str, decisions: Sequence[Row]) -> None:
    requested = next((d["approval"].get("requested_by") for d in decisions if d["approval"].get("requested_by")), None)
    reason = next((d["approval"].get("reason") for d in decisions if d["approval"].get("reason")), "")
    detail = f"by {requested}" if requested else "who asked is not known"
    request = chain.put(
        0, Node(f"request {ticket}", ticket, f"{detail}{': ' + reason if reason else ''}", "ticket", (ticket,))
    )
    decided = [d for d in decisions if d["approval"].get("state") in ("approved", "rejected")]
    if not decided:
        asked = chain.put(
            1, Node(f"approval {ticket}", "No approval", "none of this request is in the log", known=False)
        )
        chain.join(request, asked, "none", "no decision is in the log")
    for each in decided:
        people = ", ".join(each["approval"].get("approvers", ())) or each["decided_by"] or each["who_id"] or "unknown"
        title = f"{each['approval']['state'].capitalize()} by {people}"
        node = chain.put(1, Node(f"decision {each['index']}", title, f"{each['occurred_at']:%Y-%m-%d %H:%M} UTC, told by {each['source']}",
                                 "record", (each["index"],)))  # fmt: skip
        chain.join(request, node, *_told(each, ticket))


def _told(decision: Row, ticket: str) -> tuple[str, str]:
    if "unauthorised_assertion" in decision["flags"]:
        return "none", f"{decision['source']} may not assert approvals"
    if decision["source"] == "touchstone":
        return "exact", f"decided here, for the request {ticket}"
    return "asserted", f"{decision['source']} says so for the ticket {ticket}"


def _statements(acts: Iterable[Row]) -> dict[str, list[Row]]:
    """Acts that are statements, by the id that their lines share; and changes that none accounts for, by transaction."""
    found: dict[str, list[Row]] = {}
    writers = {_transaction(a) for a in acts if a["kind"] == "query" and a["class"] == "write" and a["transaction_id"]}
    for act in acts:
        if act["kind"] == "query":
            found.setdefault(f"statement {act['source']} {act['correlation_id'] or act['event_id']}", []).append(act)
        elif not act["transaction_id"] or _transaction(act) not in writers:
            found.setdefault(f"unseen {'/'.join(map(str, _transaction(act)))}", []).append(act)
    return found


def _transaction(act: Row) -> tuple[Any, Any, Any]:
    return act["environment"], act["datasource"], act["transaction_id"]


def _statement(chain: Chain, key: str, lines: Sequence[Row], more: int) -> None:
    """One statement, or with an empty key one of those that are only counted."""
    act = lines[0]
    if not key:
        node = Node(
            "more statements", f"and {words.counted(more, 'more statement')}", "folded: see the records of the session"
        )
    elif key.startswith("unseen"):
        node = Node(key, "No statement reported", "row images without a statement of their transaction", known=False)
    else:
        text = " ".join((act["statement"] or act["command"] or act["op"] or "statement").split())
        node = Node(key, text, f"record {act['index']}, {act['verdict'] or 'unknown'}", "record", (act["index"],))
    name = chain.put(3, node)
    session = _session(chain, act)
    strength = "none" if not act["session"] else "gateway" if act["source_format"] == "gateway" else "exact"
    by = (
        "no line of its transaction names a session"
        if not act["session"]
        else f"the record names the session {act['session']}"
    )
    if key.startswith("unseen") and act["session"]:
        by = f"a line of the transaction {act['transaction_id']} names the session"
    chain.join(session, name, strength, by)


def _session(chain: Chain, act: Row) -> str:
    """The session with who worked in it, joined to the intent that its acts cite."""
    person = words.person(act) + (f" for {act['on_behalf_of']}" if act["on_behalf_of"] else "")
    reason = words.CLAIMED if act["claimed"] else words.ATTRIBUTIONS.get(act["attribution"], "")
    if not act["session"]:
        node = Node("session", "Not attributed", words.ATTRIBUTIONS["none"], known=False)
    else:
        node = Node(
            f"session {act['session']} {act['who_id']}",
            person,
            f"{act['session']}. {reason}",
            "session",
            (act["session"],),
        )
    name = chain.put(2, node)
    names = dict.fromkeys(n for n in (act["approval_request"], act["ticket"]) if n)
    if not names:
        nothing = chain.put(
            0, Node("no request", "No request known", "no record names a reason or ticket", known=False)
        )
        approval = chain.put(
            1, Node("no approval", "No approval known", "nothing is cited that could be approved", known=False)
        )
        chain.join(nothing, approval, "none", "nothing to join")
        chain.join(approval, name, "none", "the acts cite no ticket or request")
    for cited in names:
        for start in [j.end for j in list(chain.joins.values()) if j.start == f"request {cited}"]:
            chain.join(start, name, *_citing(act, cited))
    return name


def _citing(act: Row, cited: str) -> tuple[str, str]:
    if act["claimed"]:
        return "claimed", f"a message cites {cited}, not proved yet"
    if act["source_format"] == "gateway" or act["attribution"] == "gateway":
        return "gateway", f"the gateway ran it under {cited}"
    strength = CITED.get(act["attribution"], "asserted")
    return strength, f"the acts cite {cited} ({act['attribution'].replace('_', ' ')})"


def _bare(relation: str) -> str:
    """A relation's name without its schema: a parsed statement often has no more."""
    return relation.rpartition(".")[2]


def _rows(chain: Chain, found: Mapping[str, Any], statements: Mapping[str, list[Row]], shown: set[str]) -> None:
    """Row images under the statements of their transaction; then rows that only a statement names."""
    writers, shown_by_image = _writers(statements), set()
    for act in (a for a in found["acts"] if a["kind"] == "change"):
        relation = (act["relations"] or ["unknown table"])[0]
        strength, by, owners = _owners(act, relation, writers)
        row = _row(chain, act["datasource"], relation, act["key"])
        for owner in owners:
            shown_by_image.add((owner, _bare(relation)))
            chain.join(owner if owner in shown else "more statements", row, strength, by)
    _named(chain, found["keys"], statements, shown, shown_by_image)


def _writers(statements: Mapping[str, list[Row]]) -> dict[tuple[Any, str], list[str]]:
    """The writing statements of each transaction, by bare name of the table; and all of them under ""."""
    found: dict[tuple[Any, str], dict[str, None]] = {}
    for key, lines in statements.items():
        for act in lines:
            if act["kind"] == "query" and act["class"] == "write" and act["transaction_id"]:
                for relation in ("", *(act["relations"] or ())):
                    found.setdefault((_transaction(act), _bare(relation)), {})[key] = None
    return {pair: list(keys) for pair, keys in found.items()}


def _owners(act: Row, relation: str, writers: Mapping[tuple[Any, str], list[str]]) -> tuple[str, str, list[str]]:
    """How a row change is joined, by what, and to which statements."""
    transaction, by = _transaction(act), f"transaction {act['transaction_id']}"
    if not act["transaction_id"] or (transaction, "") not in writers:
        return "none", f"no statement that writes is known of its transaction {act['transaction_id'] or ''}".strip(), [
            f"unseen {'/'.join(map(str, transaction))}"
        ]  # fmt: skip
    owners = writers.get((transaction, _bare(relation)))
    if not owners:
        return (
            "exact",
            f"{by}: its statements do not name {relation} (a trigger, function or cascade)",
            writers[transaction, ""],
        )
    if len(owners) == 1:
        return "exact", f"{by}: the only statement of it that writes {relation}", owners
    return "exact", f"{by}: one of {len(owners)} statements of it that write {relation}", owners


def _named(
    chain: Chain,
    keys: Sequence[Row],
    statements: Mapping[str, list[Row]],
    shown: set[str],
    shown_by_image: set[tuple[str, str]],
) -> None:
    """Rows that a statement names itself, where no row image shows which they were."""
    of = {act["index"]: (key, act) for key, lines in statements.items() for act in lines}
    for each in keys:
        key, act = of.get(each["index"], ("", {}))
        if not key or (key, _bare(each["relation"])) in shown_by_image:
            continue
        told = each["provenance"] == "reported"
        row = _row(chain, act["datasource"], each["relation"], each["key"])
        by = "the source saw this row" if told else "its condition names this key"
        chain.join(key if key in shown else "more statements", row, "exact" if told else "parsed", by)


def _row(chain: Chain, datasource: str | None, relation: str, key: str | None) -> str:
    name = f"row {datasource} {relation} {key}"
    if name in chain.columns[4]:
        return name
    if len([n for n in chain.columns[4].values() if n.kind == "row"]) >= SHOWN:
        seen = chain.folded
        seen[name] = 1
        node = Node("more rows", f"and {words.counted(len(seen), 'more row')}", "folded: see the records")
        chain.columns[4]["more rows"] = node
        return "more rows"
    known = key is not None
    title = f"{relation} {key}" if known else f"{relation}, a row without key"
    return chain.put(4, Node(name, title, datasource or "", "row", (datasource, relation, key) if known else (), known))


def drawn(chain: Chain) -> dict[str, Any]:
    """Boxes with their places and lines between them, for the picture that the server makes."""
    places: dict[str, tuple[int, int]] = {}
    boxes = []
    for number, column in enumerate(chain.columns):
        for place, node in enumerate(column.values()):
            x, y = number * COLUMN + 4, TOP + place * STEP
            places[node.id] = (x, y)
            boxes.append({"node": node, "x": x, "y": y, "width": NODE, "height": HEIGHT, "text_x": x + 10, "title_y": y + 20,
                          "detail_y": y + 37, "title": short(node.title, 26), "detail": short(node.detail, 31)})  # fmt: skip
    lines = []
    for join in chain.joins.values():
        (x1, y1), (x2, y2) = places[join.start], places[join.end]
        x1, y1, y2 = x1 + NODE, y1 + HEIGHT // 2, y2 + HEIGHT // 2
        middle = (x1 + x2) // 2
        lines.append(
            {
                "join": join,
                "path": f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}",
                "x": middle,
                "y": (y1 + y2) // 2 + 4,
            }
        )
    height = TOP + max((len(column) for column in chain.columns), default=1) * STEP
    heads = [{"x": n * COLUMN + 4, "name": name} for n, name in enumerate(COLUMNS)]
    return {"boxes": boxes, "lines": lines, "width": WIDTH, "height": height, "heads": heads}


def short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
