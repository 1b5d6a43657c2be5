"""Plans, error texts and refusals, over a catalog made by hand: what PostgreSQL itself answers is tried in the forms."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcement.gateway import catalog, classes, disguises, masking, messages
from enforcement.gateway.catalog import Catalog
from enforcement.gateway.disguises import Counts
from enforcement.gateway.effects import JudgedPart, Scope, resolve
from enforcement.gateway.messages import Field

EVERY = frozenset({"*"})
SCOPE = Scope(("public",), "app", "app", frozenset())
TYPES = {
    "int": 23,
    "text": 25,
    "date": 1082,
    "jsonb": 3802,
    "json": 114,
    "text[]": 1009,
    "numeric": 1700,
    "citext": 70000,
}


def relation(oid: int, name: str, key: list[int], *columns: tuple[str, str]) -> dict[str, object]:
    listed = [
        {"name": c, "attnum": n, "type_oid": TYPES[t], "type_name": t, "not_null": False}
        for n, (c, t) in enumerate(columns, 1)
    ]
    return {"oid": oid, "schema": "public", "name": name, "kind": "r", "columns": listed, "primary_key": key}


def known() -> Catalog:
    relations = [
        relation(20001, "customers", [1], ("id", "int"), ("email", "text"), ("name", "text"), ("birth_date", "date"),
                 ("country", "text"), ("extra", "jsonb"), ("nick", "citext")),
        relation(20002, "lines", [1, 2], ("order_id", "int"), ("line", "int"), ("email", "text"), ("total", "numeric")),
        relation(20003, "mails", [1], ("email", "text"), ("seen", "int")),
    ]  # fmt: skip
    told = {
        "relations": relations,
        "functions": [],
        "own_functions": ["lower", "count"],
        "operators": [],
        "roles": ["app"],
    }
    return catalog.read(json.dumps(told), lambda s, r, c, t, tags: classes.classify(s, r, c, t, ()))


CATALOG = known()


def part(sql: str) -> JudgedPart:
    return resolve(sql, (), CATALOG, SCOPE).parts[0]


def column(name: str, oid: int = 20001, format_: int = 0) -> Field:
    found = next(c for c in CATALOG.by_oid[oid].columns if c.name == name)
    return Field(name, oid, found.attnum, found.type_oid, -1, -1, format_)


def expression(name: str, type_oid: int = 25, format_: int = 0) -> Field:
    return Field(name, 0, 0, type_oid, -1, -1, format_)


PEOPLE = part("select id, email, birth_date from customers")


def test_a_plan_masks_by_class_and_counts() -> None:
    plan = masking.plan(
        (column("id"), column("email"), column("birth_date")),
        part("select id, email, birth_date from customers"),
        CATALOG,
        EVERY,
    )
    assert plan.row([b"7", b"alice@shop.example", b"1980-01-01"]) == [b"7", b"a***@***.example", None]
    assert plan.row([b"8", None, b""]) == [b"8", None, b""]
    assert plan.row([b"9", b"al@shop.example", None]) == [b"9", b"***@***.example", None]
    assert plan.counts == {"email": 2, "date_of_birth": 1}
    assert plan.columns == ("public.customers.email", "public.customers.birth_date")
    assert not plan.is_plain


def test_only_the_classes_of_the_rule_are_masked() -> None:
    fields = (column("email"), column("birth_date"))
    plan = masking.plan(fields, part("select email, birth_date from customers"), CATALOG, frozenset({"date_of_birth"}))
    assert plan.row([b"alice@shop.example", b"1980-01-01"]) == [b"alice@shop.example", None]


def test_without_classes_to_mask_a_plan_is_plain_and_knows_the_keys() -> None:
    plan = masking.plan((column("email"), column("id")), part("select email, id from customers"), CATALOG, frozenset())
    assert plan.is_plain
    assert plan.keys == (("public.customers", ((1, "id"),)),)


def test_numbers_of_unprotected_tables_go_on_as_they_are() -> None:
    plan = masking.plan(
        (column("total", 20002), expression("n", 20)),
        part("select total, count(*) from lines group by 1"),
        CATALOG,
        EVERY,
    )
    assert plan.is_plain


def test_keys_are_told_only_whole_once_and_unmasked() -> None:
    both = (column("line", 20002), column("order_id", 20002))
    sql = "select line, order_id from lines"
    assert masking.plan(both, part(sql), CATALOG, EVERY).keys == (("public.lines", ((1, "order_id"), (0, "line"))),)
    assert masking.plan(both[:1], part(sql), CATALOG, EVERY).keys == ()
    assert masking.plan((*both, *both), part(sql), CATALOG, EVERY).keys == ()
    assert masking.plan((column("email", 20003),), part("select email from mails"), CATALOG, EVERY).keys == ()


def test_an_expression_beside_a_protected_column_is_masked_whole_by_its_type() -> None:
    sql = "select lower(email), length(email), to_jsonb(email), to_jsonb(email), country || '' from customers"
    fields = (
        expression("lower"),
        expression("length", 23),
        expression("j", 3802),
        expression("j", 3802, 1),
        expression("c"),
    )
    plan = masking.plan(fields, part(sql), CATALOG, EVERY)
    hidden = "••••".encode()
    assert plan.row([b"alice@x.example", b"15", b'"a"', b'\1"a"', b"DE"]) == [
        hidden, None, b'"' + hidden + b'"', b'\1"' + hidden + b'"', b"DE",
    ]  # fmt: skip
    assert plan.counts == {"untraced": 4}


def test_what_is_not_understood_is_masked_whole() -> None:
    for sql in ("select anything(1), 2", "do $$ begin end $$", "execute unseen", "fetch all from c", "selec"):
        judged = part(sql)
        plan = masking.plan((expression("a"), expression("b", 23)), judged, CATALOG, EVERY)
        if sql.startswith("fetch"):
            judged = msgspec.structs.replace(judged, opaque=True)
            plan = masking.plan((expression("a"), expression("b", 23)), judged, CATALOG, EVERY)
        assert plan.row([b"x", b"1"]) == ["••••".encode(), None], sql


def test_an_answer_of_another_width_than_the_statement_says_is_masked_whole() -> None:
    plan = masking.plan((expression("a"), expression("b")), part("select lower(email) from customers"), CATALOG, EVERY)
    assert plan.row([b"x", b"y"]) == ["••••".encode()] * 2


def test_columns_of_relations_that_the_catalog_does_not_know_are_masked_whole() -> None:
    field = Field("whatever", 99999, 1, 25, -1, -1, 0)
    plan = masking.plan((field,), part("select whatever from made_just_now"), CATALOG, EVERY)
    assert plan.row([b"alice"]) == ["••••".encode()]


def test_text_of_no_class_is_judged_by_value() -> None:
    plan = masking.plan((column("country"),), part("select country from customers"), CATALOG, EVERY)
    assert plan.row(["für bob@x.example, 4111 1111 1111 1111!".encode()]) == [
        "für b***@***.example, •••• 1111!".encode()
    ]
    assert plan.row([b"key AKIAIOSFODNN7EXAMPLE is mine"]) == ["••••".encode()]
    assert plan.row([b'{"first_name": "Bob", "n": 1.0}']) == ['{"first_name": "••••", "n": 1.0}'.encode()]
    assert plan.row([b"Berlin"]) == [b"Berlin"]
    assert plan.counts == {"email": 1, "card": 1, "secret": 1, "person_name": 1}


def test_types_with_a_form_of_their_own_become_null_where_something_is_found() -> None:
    plan = masking.plan((column("nick"),), part("select nick from customers"), CATALOG, EVERY)
    assert plan.row([b"bob@x.example"]) == [None]
    assert plan.row([b"bobby"]) == [b"bobby"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=8) | st.sampled_from(["email", "Vorname"]), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_a_masked_document_is_json_of_the_same_shape(value: object, indent: int | None, escaped: bool) -> None:
    counts = Counts()
    text = json.dumps(value, indent=indent, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    shown = disguises.document(EVERY, counts)(text)
    assert shown is not None
    masked = json.loads(shown.decode("utf-8", "replace"))
    assert type(masked) is type(value) or masked is None
    if not counts:
        assert shown == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"email":"a@b.example","n":1.50, "x":[1,2]}', '{"email":"***@***.example","n":1.50, "x":[1,2]}'),
        ('{"person": {"first_name": "Ann", "age": 7}}', '{"person": {"first_name": "••••", "age": 7}}'),
        ('{"phones": ["+4930123456", {"x": "12"}]}', '{"phones": ["•••• 56", {"x": "••••"}]}'),
        ('{"salary": 5000, "bonus": null}', '{"salary": null, "bonus": null}'),
        (r'["\u0061lice\u0040shop.example"]', '["a***@***.example"]'),
        ('{"bob@x.example": 1}', '{"b***@***.example": 1}'),
        ("[4111111111111111, 12]", "[null, 12]"),
        ('"alice@shop.example"', '"a***@***.example"'),
    ],
)
def test_leaves_are_masked_by_key_and_by_value_and_all_else_stays(text: str, expected: str) -> None:
    shown = disguises.document(EVERY, Counts())(text.encode())
    assert shown is not None
    assert shown.decode() == expected


@pytest.mark.parametrize("text", ["{", '{"a": 1}}x{', '"open', "]"])
def test_what_is_no_document_is_masked_whole(text: str) -> None:
    assert disguises.document(EVERY, Counts())(text.encode()) is None


ERROR = {
    "S": "ERROR",
    "C": "22P02",
    "M": 'invalid input syntax for type integer: "alice@x.example"',
    "D": "x",
    "W": "y",
    "n": "pk",
}


def test_an_error_of_a_statement_that_reads_protected_columns_says_its_condition_alone() -> None:
    shown = masking.scrub(ERROR, part("select email::int from customers"), EVERY)
    assert set(shown) == {"S", "C", "M", "n"}
    assert "alice" not in shown["M"]
    assert "cannot be read as the type" in shown["M"]


def test_an_error_of_any_other_statement_keeps_its_words_but_not_what_detectors_find() -> None:
    shown = masking.scrub(ERROR, part("select total::int from lines"), EVERY)
    assert shown["M"] == 'invalid input syntax for type integer: "a***@***.example"'
    assert shown["D"] == "x"
    assert masking.scrub(ERROR, part("select email::int from customers"), frozenset()) == ERROR


@pytest.mark.parametrize("sql", ["commit", "update lines set total = 1", "insert into lines (total) values (1)"])
def test_a_violated_constraint_never_quotes_the_row(sql: str) -> None:
    shown = masking.scrub(
        {"C": "23514", "M": "check violated", "D": "Failing row contains (7, Ann)."}, part(sql), EVERY
    )
    assert "D" not in shown


@pytest.mark.parametrize("sql", ["update lines set total = 1", "commit", "set constraints all immediate"])
def test_what_a_trigger_says_is_not_said(sql: str) -> None:
    for code in ("P0001", "00000", "01000"):
        assert "Ann" not in masking.scrub({"C": code, "M": "bad Ann"}, part(sql), EVERY)["M"]
    assert "Ann" not in masking.scrub({"C": "P0001", "M": "bad Ann"}, None, EVERY)["M"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("update lines set email = c.email from customers c", None),
        ("insert into mails select email, 1 from customers", None),
        ("insert into lines (total) select 1 from customers where email like 'a%'", None),
        ("update lines set total = length(c.email) from customers c", "lines"),
        ("update lines set total = 1 from customers c where line = ascii(c.email)", "lines"),
        ("delete from lines using customers c where line <> ascii(c.email)", "lines"),
        ("delete from lines where not exists (select from customers c where line = ascii(c.email))", "lines"),
        ("delete from lines using customers c where order_id = c.id and c.email like 'a%'", None),
        ("create view v as select email from customers", "masked for you"),
        ("create table t as select id from customers", None),
        ("listen x", "channel"), ("notify x, 'y'", None),
        ("alter table customers rename column email to x", "public.customers"),
        ("alter table lines add column x int", None),
    ],
)  # fmt: skip
def test_what_would_carry_protected_values_elsewhere_is_refused(sql: str, said: str | None) -> None:
    sentence = masking.refuse(part(sql), CATALOG, EVERY)
    assert (sentence is None) if said is None else (sentence is not None and said in sentence)
    assert masking.refuse(part(sql), CATALOG, frozenset()) is None


PLANTED = st.sampled_from([
    b"alice@shop.example", b"4111 1111 1111 1111", b"DE89 3704 0044 0532 0130 00", b"+4930123456", b"12345678Z", b"X1234567L",
    b"RSSMRA85T10A562S", b"GOMC900101HDFRRL09", b"11010519491231002X", b"756.9217.0769.85", b"390.533.447-05", b"85.07.30-033.28",
    b"AKIAIOSFODNN7EXAMPLE", b"-----BEGIN PRIVATE KEY-----", b"ghp_" + b"a1B2" * 9, b"postgres://app:hunter2@db/shop",
    b'{"email": "a@b.example"}', b'["x"]', b"$1$salt$" + b"a.B/c" * 5, b"1 84 12 76 451 089 46",
])  # fmt: skip
VALUES = st.lists(
    st.one_of(PLANTED, st.binary(max_size=30), st.tuples(st.binary(max_size=4), PLANTED).map(b"".join)), max_size=6
)
BESIDE = st.sampled_from([b"", b"\0\0\0\x0c", b"\t", b"A", b"0", b"-", b" ", b".", b"@"])


@given(VALUES, BESIDE)
def test_what_is_looked_at_together_misses_nothing_that_a_value_holds(values: list[bytes], beside: bytes) -> None:
    """The look over whole runs of rows may be wrong in one direction only, whatever stands between the values."""
    together = beside.join(values)
    for mask in (disguises.by_value(EVERY, Counts()), disguises.all_or_nothing(EVERY, Counts())):
        changed = [value for value in values if value and mask(value) != value]
        assert not changed or disguises.may_show(together)


@given(st.lists(st.tuples(*[st.none() | PLANTED | st.binary(max_size=12)] * 3), max_size=8), st.integers(0, 8))
def test_rows_are_masked_together_as_each_by_itself(rows: list[tuple[bytes | None, ...]], cut: int) -> None:
    for fields, sql in (
        ((column("id"), column("email"), column("country")), "select id, email, country from customers"),
        ((expression("a"), expression("b"), expression("c", 23)), "select 'a', 'b', 3"),
    ):
        plan = masking.plan(fields, part(sql), CATALOG, EVERY)
        data = b"".join(messages.encode_data_row(row) for row in rows)
        wanted = b"".join(messages.encode_data_row(plan.row(row)) for row in rows)
        counted = plan.counts
        again = masking.plan(fields, part(sql), CATALOG, EVERY)
        assert again.rows(b"x" * cut + data, cut, cut + len(data)) == wanted
        assert again.counts == counted


@pytest.mark.parametrize(
    "row",
    [
        messages.encode_data_row((b"1", b"x")),
        messages.encode_data_row((b"1", b"x", b"y", b"z")),
        b"D\0\0\0\x0e\0\3\0\0\0\1a\xff\xff\xff",
        b"D\0\0\0\x12\0\3" + b"\xff" * 8 + b"\xff\xff\xff\xfe",
        messages.encode_data_row((b"1", b"x", b"y"))[:3]
        + b"\0\x1b"
        + messages.encode_data_row((b"1", b"x", b"y"))[5:]
        + b"more",
    ],
)
def test_what_is_no_row_of_the_answer_is_an_error(row: bytes) -> None:
    plan = masking.plan((column("id"), column("email"), column("country")), PEOPLE, CATALOG, EVERY)
    with pytest.raises(messages.FrameError):
        plan.rows(row, 0, len(row))
