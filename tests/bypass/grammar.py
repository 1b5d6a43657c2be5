"""Random SQL: reads and writes in every wrapping, written in every way that PostgreSQL takes for the same."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

RELATIONS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("public", "customers"): (("id", "up"), ("name", "email")),
    ("public", "orders"): (("id", "customer_id"), ("note",)),
    ("public", "codes"): (("n",), ("code",)),
    ("public", 'Odd "Name'): (("Id",), ("a b",)),
    ("public", "größe"): (("id", "n"), ()),
    ("public", "parted"): (("id", "n"), ("email",)),
    ("public", "parted_low"): (("id", "n"), ("email",)),
    ("public", "base"): (("id",), ("email",)),
    ("public", "derived"): (("id", "extra"), ("email",)),
    ("public", "ruled"): (("id", "n"), ()),
    ("public", "addresses"): (("id", "customer_id"), ()),
    ("public", "writable"): (("id",), ("name",)),
    ("s", "customers"): (("id",), ("colour",)),
    ("evil", "orders"): (("id",), ("email",)),
}
"""What can be written: integer columns, the key first, and columns of text."""
VIEWS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("public", "named"): (("id",), ("contact",)),
    ("public", "renamed"): (("id",), ("c",)),
    ("public", "counted"): (("n",), ()),
    ("public", "totals"): (("customer_id",), ()),
}
Relation = tuple[str, str]


class Writer:
    """Writes one random text; the same for the same `random`."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.names = 0

    def text(self) -> str:
        """One to three statements."""
        parts = [self.statement() for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
        if self.random.randrange(5) == 0:
            parts.insert(0, self.setting())
        return ";".join(parts) + self.random.choice(["", ";", " -- end", "/* end */"])

    def setting(self) -> str:
        return self.random.choice([
            self.join("set", "search_path", "=", self.random.choice(["s", '"s"', "evil, public", "public, s"])),
            self.join("set", "local", "search_path", "to", "s", ",", "public"),
            "select pg_catalog.set_config('search_path', 's, public', true)",
            "set search_path = pg_catalog, public",
            "create temp table orders (id int, customer_id int, note text)",
        ])  # fmt: skip

    def statement(self) -> str:
        makers: list[Callable[[], str]] = [
            lambda: self.read(2), lambda: self.read(2), lambda: self.write(2), lambda: self.write(2),
            lambda: self.join("explain", self.random.choice(["analyze", "(analyze)", "(analyze on, costs off)"]),
                              self.random.choice([self.read, self.write])(1)),
            lambda: self.join("copy", "(", self.random.choice([self.read(1), self.change(1) + " returning *"]), ")", "to",
                              "stdout"),
            lambda: self.join("copy", self.plain(), "to", "stdout"),
            lambda: self.join("create", self.random.choice(["temp", "", "unlogged"]), "table", self.fresh(), "as", self.read(1)),
            self.prepared, self.cursor, self.renamed, self.viewed, self.hidden, self.emptied,
        ]  # fmt: skip
        return self.random.choice(makers)()

    def prepared(self) -> str:
        name, body = self.fresh(), self.random.choice([self.read, self.write])(1)
        return f"{self.join('prepare', name, 'as', body)};{self.join('execute', name)}"

    def cursor(self) -> str:
        name = self.fresh()
        fetch = self.join(self.random.choice(["fetch", "move"]), self.random.choice(["all", "3"]), "from", name)
        return f"{self.join('declare', name, 'cursor', 'for', self.read(1))};{fetch}"

    def renamed(self) -> str:
        name, relation = self.fresh(), self.random.choice([r for r in RELATIONS if r[1] != "writable"])
        return (
            f"{self.join('alter', 'table', self.exact(relation), 'rename', 'to', name)};"
            f"{self.join('select', '*', 'from', self.identifier(relation[0]), '.', name)}"
        )

    def viewed(self) -> str:
        name = self.fresh()
        return f"{self.join('create', 'view', name, 'as', self.read(1))};{self.join('select', '*', 'from', name)}"

    def hidden(self) -> str:
        return self.random.choice([
            "do $x$ begin update orders set note = 'd' where id = 2; end $x$", "select touch_orders()", "call clear_codes()",
            "select c.total from customers c", "select (c).total from customers c where id = 1",
            "select query_to_xml('select * from customers', true, true, '')",
            "select lower(name::varchar) from customers", "set search_path = public, evil; select lower('x'::varchar)",
            "create function pg_temp.f() returns int language sql as 'delete from codes returning n'; select pg_temp.f()",
        ])  # fmt: skip

    def emptied(self) -> str:
        relation = self.random.choice(["codes", "orders", "customers", "s.customers", "parted", "parted_low", "base"])
        return self.join("truncate", self.random.choice(["", "table"]), relation, self.random.choice(["", "cascade"]))

    # How things are written

    def word(self, text: str) -> str:
        """A keyword or plain word in some mixture of cases."""
        return "".join(self.random.choice([c.lower(), c.upper()]) for c in text) if text.isascii() else text

    def join(self, *tokens: str) -> str:
        """Tokens with some kind of blank between them; the first ones, up to a name, in any case."""
        text = ""
        for token in tokens:
            if not token:
                continue
            blank = self.random.choice([" ", " ", " ", "\n", "\t", "/**/", " /* ' \" */ ", " -- $$\n", "/* /* x */ */"])
            text += (blank if text else "") + (self.word(token) if token.islower() and token.isalpha() else token)
        return text

    def identifier(self, name: str) -> str:
        """A name as it stands, in other case, quoted, or as a Unicode identifier."""
        forms = ['"' + name.replace('"', '""') + '"', self._unicode(name)]
        if name.replace("_", "").isalnum() and name == name.lower():
            forms += [name, name, name, self.word(name)]
        return self.random.choice(forms)

    def _unicode(self, name: str) -> str:
        place = self.random.randrange(len(name))
        escaped = "".join(rf"\{ord(c):04x}" if at == place else '""' if c == '"' else c for at, c in enumerate(name))
        return f'U&"{escaped}"'

    def exact(self, relation: Relation) -> str:
        """A relation with its schema."""
        dot = self.random.choice([".", ".", " . ", "/**/./**/"])
        return f"{self.identifier(relation[0])}{dot}{self.identifier(relation[1])}"

    def named(self, relation: Relation) -> str:
        if relation[0] == "public" and self.random.randrange(3):
            return self.identifier(relation[1])
        return self.exact(relation)

    def plain(self) -> str:
        return self.named(self.random.choice([r for r in RELATIONS if r[1] not in ("writable", "parted")]))

    def fresh(self) -> str:
        self.names += 1
        return self.random.choice(["x", "delete", "drop_it", '"update"', '"größer"', "truncate"]).replace(
            "x", f"x{self.names}"
        )

    def literal(self) -> str:
        return self.random.choice([
            "'x'", "'delete from customers'", r"E'it\'s; drop table codes; --'", "$$;$$", "$q$ ' $$ $q$", "'it''s'",
            r"U&'\0061'", r"E'\x61'", "'é'", "null", "'/*'", "'--'",
        ])  # fmt: skip

    def number(self) -> str:
        return self.random.choice(["1", "2", "3", "0", "-1", "10", "1::int", "cast(2 as int)"])

    # Reads

    def read(self, depth: int) -> str:
        makers: list[Callable[[], str]] = [lambda: self.select(depth), lambda: self.select(depth)]
        if depth:
            makers += [
                lambda: self.join("table", self.named(self.random.choice([*RELATIONS, *VIEWS]))),
                lambda: self.join("values", f"(({self.one(depth - 1)}))"),
                lambda: self.join(self.one(depth - 1), self.random.choice(["union", "except", "intersect", "union all"]),
                                  self.one(depth - 1)),
                lambda: self.with_(depth),
            ]  # fmt: skip
        return self.random.choice(makers)()

    def with_(self, depth: int) -> str:
        name = self.random.choice(["x", "orders", "customers", "delete", '"update"'])
        body = self.random.choice([self.one(depth - 1), self.change(depth - 1) + " returning 1 as k"])
        return self.join("with", name, "as", "(", body, ")", "select", "*", "from", name)

    def one(self, depth: int) -> str:
        """A query of one integer column and, as a subselect, one row at most."""
        relation = self.random.choice([*RELATIONS, *VIEWS])
        key = self.identifier({**RELATIONS, **VIEWS}[relation][0][0])
        return (
            "("
            + self.join("select", key, "from", self.named(relation), *self.where(relation, depth), "limit", "1")
            + ")"
        )

    def select(self, depth: int) -> str:
        relation = self.random.choice([*RELATIONS, *VIEWS])
        integers, texts = {**RELATIONS, **VIEWS}[relation]
        columns = [*map(self.identifier, (*integers, *texts))]
        shown = self.random.choice([
            "*", "count(*)", columns[0], ", ".join(columns), "q", "q.*", f"max({columns[0]})", "row_to_json(q)",
        ])  # fmt: skip
        tail = (
            self.join(self.random.choice(["", "", "", "for update"])) if shown == "*" and relation in RELATIONS else ""
        )
        source = self.named(relation)
        joined = self.random.choice(["", "", "join", "left join", "cross join", "lateral"])
        more: list[str] = []
        if joined and depth:
            tail, other = "", f"({self.one(depth - 1)})"
            on = [] if joined in ("cross join", "lateral") else ["on", "true"]
            more = [", lateral" if joined == "lateral" else joined, other, "z", *on]
        return self.join("select", shown, "from", source, "q", *more, *self.where(relation, depth, "q"), tail)

    def where(self, relation: Relation, depth: int, alias: str = "") -> list[str]:
        key = self.identifier({**RELATIONS, **VIEWS}[relation][0][0])
        key = f"{alias}.{key}" if alias else key
        conditions = [f"{key} = {self.number()}", f"{key} > {self.number()}", "true", f"{key} = {key}", ""]
        if depth > 0:
            conditions += [
                f"{key} in {self.one(depth - 1)}",
                self.join("exists", self.one(depth - 1)),
                f"{key} = (select max(k) from {self.one(depth - 1)} w(k))",
            ]
        chosen = self.random.choice(conditions)
        return ["where", chosen] if chosen else []

    # Writes

    def write(self, depth: int) -> str:
        return self.change(depth) + self.random.choice(["", "", " returning *", " returning 1"])

    def change(self, depth: int) -> str:
        makers = [self.insert, self.update, self.delete]
        return self.random.choice(makers)(depth)

    def target(self) -> Relation:
        return self.random.choice(list(RELATIONS))

    def insert(self, depth: int) -> str:
        relation = self.random.choice([r for r in RELATIONS if r[1] != "codes"])
        key = self.identifier(RELATIONS[relation][0][0])
        values = self.random.choice(
            [f"values ({self.random.randrange(40, 90)})", self.one(depth - 1) if depth else "select 41"]
        )
        conflict = self.random.choice(["", "", "on conflict do nothing"])
        if relation[1] not in ("writable", "derived", "ruled") and not self.random.randrange(3):
            conflict = f"on conflict ({key}) do update set {key} = excluded.{key}"
        return self.join(
            "insert", "into", self.named(relation), f"({key})", values, conflict if relation[1] != "ruled" else ""
        )

    def update(self, depth: int) -> str:
        relation = self.target()
        integers, texts = RELATIONS[relation]
        column = self.identifier(texts[0]) if texts else self.identifier(integers[-1])
        value = self.literal() if texts else self.number()
        if relation[1] == "codes":
            column, value = "n", self.number()
        using = self.join("from", f"({self.one(depth - 1)})", "z") if depth and not self.random.randrange(3) else ""
        return self.join("update", self.named(relation), "as", "t", "set", column, "=", value, using,
                         *self.where(relation, depth, "t"))  # fmt: skip

    def delete(self, depth: int) -> str:
        relation = self.target()
        using = self.join("using", f"({self.one(depth - 1)})", "z") if depth and not self.random.randrange(3) else ""
        only = "only" if not self.random.randrange(4) else ""
        return self.join("delete", "from", only, self.named(relation), "t", using, *self.where(relation, depth, "t"))
