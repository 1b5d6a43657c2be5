"""Scripts of client messages, each with how many ReadyForQuery answer it; later ones build on earlier ones."""

from __future__ import annotations

from enforcement.gateway import messages

S = messages.encode_sync()
H = messages.encode_flush()
Q = messages.encode_query


def parse(text: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return messages.encode_parse(name, text, types)


def bind(
    values: tuple[bytes | None, ...] = (), portal: str = "", name: str = "",
    formats: tuple[int, ...] = (), results: tuple[int, ...] = (),
) -> bytes:  # fmt: skip
    return messages.encode_bind(portal, name, formats, values, results)


def describe(name: str = "") -> bytes:
    return messages.encode_describe("P", name)


def execute(portal: str = "", limit: int = 0) -> bytes:
    return messages.encode_execute(portal, limit)


def run(text: str, *values: bytes | None, described: bool = True) -> bytes:
    """A statement through the unnamed statement and portal, without Sync."""
    return parse(text) + bind(values) + (describe() if described else b"") + execute()


def copied(*lines: bytes) -> bytes:
    return b"".join(messages.encode_copy_data(line) for line in lines) + messages.encode_copy_done()


SIMPLE = [
    (Q("select 1"), 1),
    (Q(""), 1),
    (Q(" -- nothing\n;"), 1),
    (Q("select 1; select 2, null"), 1),
    (Q("create table things(id int primary key, name text)"), 1),
    (Q("insert into things values(1, 'x')"), 1),
    (Q("insert into things values(1, 'x')"), 1),
    (Q("select * from nowhere"), 1),
    (Q("select 1; select * from nowhere; select 2"), 1),
    (Q("insert into things select g, 'v' from generate_series(2, 50) g returning id"), 1),
    (Q("update things set name = 'y' where id < 5; select count(*) from things; delete from things where id = 3"), 1),
    (Q("update things set name = 'z' where id = 1; insert into things values(2, 'twice')"), 1),
    (Q("select name from things where id = 1"), 1),
    (Q("begin; insert into things values(100, 'q'); commit"), 1),
    (Q("begin; insert into things values(100, 'q'); commit"), 1),
    (Q("rollback"), 1),
    (Q("begin"), 1),
    (Q("insert into things values(101, 'q')"), 1),
    (Q("select * from nowhere"), 1),
    (Q("select 1"), 1),
    (Q("rollback"), 1),
    (Q("begin; savepoint a; insert into things values(102, 'q'); rollback to a; insert into things values(103, 'q')"), 1),
    (Q("commit"), 1),
    (Q("rollback"), 1),
    (Q("vacuum things"), 1),
    (Q("create index concurrently by_name on things(name)"), 1),
    (Q("select 1") + Q("select 2") + Q("broken") + Q("select 4"), 4),
    (Q("do $$begin raise notice 'hello'; end$$"), 1),
    (Q("prepare one as select $1::int"), 1),
    (Q("execute one(3)"), 1),
    (Q("deallocate one"), 1),
    (Q("execute one(3)"), 1),
    (Q("begin; declare c cursor for select id from things order by id"), 1),
    (Q("fetch 2 from c"), 1),
    (Q("move 1 in c"), 1),
    (Q("close c; commit"), 1),
    (Q("create table parents(id int primary key); "
       "create table children(id int references parents deferrable initially deferred)"), 1),
    (Q("insert into children values(1)"), 1),
    (Q("begin; insert into children values(1)"), 1),
    (Q("commit"), 1),
    (Q("set search_path = public, pg_catalog"), 1),
    (Q("select name from things where id = 2"), 1),
    (Q("explain (costs off) select * from parents"), 1),
    (Q("create temp table things(secret int)"), 1),
    (Q("select * from things"), 1),
    (Q("drop table things"), 1),
    (Q("begin; set local search_path = public"), 1),
    (Q("set transaction isolation level serializable"), 1),
    (Q("show transaction_isolation"), 1),
    (Q("select count(*) from parents"), 1),
    (Q("commit"), 1),
    (Q("listen bell"), 1),
    (Q("reset search_path"), 1),
    (Q("call nowhere()"), 1),
    (Q("select 'é', E'\\n', U&'\\00e9'"), 1),
    (Q("create function said() returns trigger language plpgsql as "
       "$$begin raise notice 'late %', new.id; return null; end$$"), 1),
    (Q("create constraint trigger late after insert on things deferrable initially deferred "
       "for each row execute function said()"), 1),
    (Q("insert into things values(200, 'q')"), 1),
    (Q("insert into things values(201, 'q') returning id; select 1; insert into things values(202, 'q')"), 1),
    (run("insert into things values(203, 'q')") + run("select 1") + S, 1),
    (Q("listen heard"), 1),
    (Q("insert into things values(204, 'q'); notify heard, 'it'"), 1),
    (Q("insert into things values(205, 'q'); set datestyle = german"), 1),
    (Q("alter table things add unique (name) deferrable initially deferred; delete from things"), 1),
    (Q("delete from things"), 1),
    (Q("insert into things values(206, 'same'); insert into things values(207, 'same')"), 1),
    (Q("select count(*) from things"), 1),
]  # fmt: skip

EXTENDED = [
    (run("select $1::int + 1", b"4") + S, 1),
    (run("select $1::int + 1", b"4", described=False) + S, 1),
    (run("select $1::int + 1", b"x") + S, 1),
    (run("insert into things values($1, $2)", b"200", b"z") + S, 1),
    (run("insert into things values(201, null)", described=False) + S, 1),
    (run("insert into things values(202)") + run("insert into things values(202)") + run("insert into things values(203)")
     + S + run("select count(*) from things where id between 200 and 209") + S, 2),
    (run("broken") + run("select 1") + S + run("select 2") + S, 2),
    (parse("select id, name from things order by id", "listed") + bind((), "p", "listed") + describe("p") + execute("p", 3)
     + H + execute("p", 2) + messages.encode_close("P", "p") + S, 1),
    (bind((), "", "listed", (), (1,)) + execute("", 2) + S, 1),
    (messages.encode_describe("S", "listed") + S, 1),
    (parse("select 1", "listed") + S, 1),
    (bind((), "", "listed") + execute("", 1) + S, 1),
    (messages.encode_close("S", "listed") + S, 1),
    (bind((), "", "listed") + S, 1),
    (describe("gone") + S, 1),
    (execute("gone") + S, 1),
    (messages.encode_describe("S", "gone") + S, 1),
    (messages.encode_close("P", "gone") + S, 1),
    (Q("begin"), 1),
    (parse("select id from things order by id", "kept") + bind((), "kept", "kept") + execute("kept", 2) + S, 1),
    (execute("kept", 2) + S, 1),
    (Q("commit"), 1),
    (execute("kept", 2) + S, 1),
    (run("") + S, 1),
    (S, 1),
    (S + S, 2),
    (run("begin") + run("insert into parents values(7)") + run("commit") + S, 1),
    (run("begin") + run("insert into parents values(7)") + S + run("rollback") + S, 2),
    (run("insert into children values(1)") + S, 1),
    (parse("select 1; select 2") + S, 1),
    (parse("select $1::text") + messages.encode_describe("S", "") + S, 1),
    (bind((b"kept from before",)) + describe() + execute() + S, 1),
    (parse("select $1::text") + S + Q("select 1") + bind((b"lost",)) + execute() + S, 3),
    (run("set search_path = pg_catalog") + run("select * from things") + S, 1),
    (run("set search_path = public") + run("select id from things where id = 200") + S, 1),
    (run("reset search_path") + S, 1),
    (run("begin") + run("set transaction read only") + run("set transaction isolation level repeatable read") + S, 1),
    (run("insert into parents values(9)") + S + Q("rollback"), 2),
    (Q("prepare named(int) as select name from things where id = $1"), 1),
    (bind((b"200",), "", "named") + describe() + execute() + S, 1),
    (Q("deallocate named"), 1),
]  # fmt: skip

COPY = [
    (Q("copy (select id, name from things where id between 200 and 203 order by id) to stdout"), 1),
    (Q("copy things from stdin") + copied(b"300\tx\n30", b"1\ty\n"), 1),
    (Q("copy things from stdin") + copied(b"three hundred\tx\n"), 1),
    (Q("copy things from stdin") + messages.encode_copy_fail("changed my mind"), 1),
    (Q("copy things(id) from stdin; select count(*) from things where id >= 300") + copied(b"302\n"), 1),
    (run("copy things from stdin") + S + copied(b"400\tx\n") + S, 1),
    (run("copy things from stdin") + S + copied(b"400\tx\n") + S, 1),
    (run("copy things from stdin") + S + messages.encode_copy_fail("no") + S, 1),
    (run("copy (select 1, 'a') to stdout (format csv)") + S, 1),
    (Q("copy (select 1, 'a'::text) to stdout (format binary)"), 1),
    (Q("copy nowhere to stdout"), 1),
    (Q("select count(*) from things"), 1),
    (messages.encode_copy_done() + Q("select 1"), 1),
]
