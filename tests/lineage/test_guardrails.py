"""Rules are read strictly, the gravest matching outcome counts, and the default profile protects from the first minute."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import errors
from lineage.guardrails import DEFAULT, Asked, Guardrails, Touch, decide, load

HUMAN = Asked(
    "dana", "human", "dana@shop.example", environment="production", datasource="shop", account="app", roles=("dba",)
)
AGENT = Asked(
    "bot", "agent", on_behalf_of="dana@shop.example", environment="production", datasource="shop", purpose="OPS-1"
)
SERVICE = Asked("billing", "service", environment="production", datasource="shop")
CUSTOMERS = Touch("read", schema="public", relation="customers", columns=("email",), classes=("email",))


def rules(*texts: str) -> Guardrails:
    return load("\n".join(f'[[rule]]\nid = "r{number}"\n{text}' for number, text in enumerate(texts)))


def asked(who: Asked = HUMAN, *touches: Touch, **more: object) -> Asked:
    return msgspec.structs.replace(who, touches=touches, **more)


def outcome(text: str, what: Asked) -> str:
    return decide(rules(f'outcome = "block"\n{text}'), what).outcome


CONDITIONS = [
    ('environments = ["production"]', asked(), asked(environment="test")),
    ('environments = ["prod*"]', asked(), asked(environment="test")),
    ('who = ["agent"]', asked(AGENT), asked(HUMAN)),
    ('people = ["*@shop.example"]', asked(HUMAN), asked(SERVICE)),
    ('people = ["dana@shop.example"]', asked(AGENT), asked(SERVICE)),
    ('except_people = ["dana@*"]', asked(SERVICE), asked(HUMAN)),
    ('except_people = ["dana@*"]', asked(AGENT, on_behalf_of="eve@shop.example"), asked(AGENT)),
    ('except_people = ["bot", "*bot*"]', asked(AGENT), asked(HUMAN, actor_id="bot")),
    ('people = ["dana@*"]', asked(AGENT), asked(AGENT, on_behalf_of="eve@shop.example")),
    ('roles = ["dba"]', asked(), asked(roles=())),
    ('datasources = ["shop"]', asked(), asked(datasource="other")),
    ('accounts = ["app"]', asked(), asked(account="owner")),
    ('commands = ["DROP *"]', asked(commands=("DROP TABLE",)), asked(commands=("DROP",))),
    ('commands = ["drop table"]', asked(commands=("SELECT", "DROP TABLE")), asked(commands=("SELECT",))),
    ('verbs = ["read"]', asked(HUMAN, CUSTOMERS), asked(HUMAN, Touch("update"))),
    ('verbs = ["opaque"]', asked(opaque=True), asked(HUMAN, CUSTOMERS)),
    ("opaque = true", asked(opaque=True), asked(HUMAN, CUSTOMERS)),
    ("weakens = true", asked(weakens=("sets pgaudit.log to 'none'",)), asked()),
    ('missing = ["person"]', asked(HUMAN), asked(AGENT)),
    ('missing = ["person", "ticket"]', asked(AGENT), asked(AGENT, ticket="OPS-1")),
    ('relations = ["public.customers"]', asked(HUMAN, CUSTOMERS), asked(HUMAN, Touch("read", "", "s", "customers"))),
    ('relations = ["*.CUSTOMERS"]', asked(HUMAN, CUSTOMERS), asked(HUMAN, Touch("read", "", "s", "orders"))),
    ('relations = ["public.a.b"]', asked(HUMAN, Touch("read", "", "public", "a.b")), asked(HUMAN, Touch("read", "", "public", "axb"))),
    ('classes = ["email"]', asked(HUMAN, CUSTOMERS), asked(HUMAN, Touch("read", "", "s", "t", classes=("iban",)))),
    ('classes = ["*"]', asked(HUMAN, CUSTOMERS), asked(HUMAN, Touch("read", "", "s", "t"))),
    ("unconditional = true", asked(HUMAN, Touch("delete", unconditional=True)), asked(HUMAN, Touch("delete"))),
    ("bulk = true", asked(HUMAN, Touch("update")), asked(HUMAN, Touch("update", keys=1))),
    ("bulk = true", asked(HUMAN, Touch("delete")), asked(HUMAN, Touch("insert"))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "yes", "no"), CONDITIONS)
def test_a_rule_holds_only_where_each_of_its_conditions_does(text, yes, no):
    assert outcome(text, yes) == "block"
    assert outcome(text, no) == "allow"


def test_conditions_on_what_is_touched_must_hold_for_one_and_the_same_touch():
    both = 'verbs = ["delete"]\nrelations = ["public.customers"]'
    assert outcome(both, asked(HUMAN, CUSTOMERS, Touch("delete", "", "public", "orders"))) == "allow"
    assert outcome(both, asked(HUMAN, Touch("delete", "", "public", "customers"))) == "block"


UNKNOWN = Touch("read", schema="public", relation="new", certainty="assumed", classes=("unknown",))


def test_what_the_catalog_does_not_know_is_taken_for_what_a_rule_forbids_and_not_for_what_it_opens():
    what = asked(HUMAN, UNKNOWN)
    assert outcome('relations = ["public.customers"]', what) == "block"
    assert outcome('classes = ["iban"]', what) == "block"
    assert outcome('relations = ["s.customers"]', what) == "allow"
    assert outcome('relations = ["pg_catalog.pg_authid"]', what) == "allow"
    opened = rules(
        'outcome = "allow"\nfirst = true\nrelations = ["public.customers"]', 'outcome = "block"\nverbs = ["read"]'
    )
    assert decide(opened, what).outcome == "block"


def test_the_gravest_outcome_of_all_that_match_counts_and_all_are_named():
    found = decide(
        rules(
            'outcome = "allow"',
            'outcome = "limit"\nrows_over = 10',
            'outcome = "mask"\nclasses = ["email"]',
            'outcome = "approve"',
            'outcome = "limit"\nrows_over = 5',
            'outcome = "block"\nwho = ["agent"]',
        ),
        asked(HUMAN, CUSTOMERS),
    )
    assert (found.outcome, found.rule, found.mask) == ("approve", "r3", {"email"})
    assert [rule for rule, _ in found.matched] == ["r0", "r1", "r2", "r3", "r4"]


def test_of_several_limits_the_tightest_counts():
    found = decide(rules(*(f'outcome = "limit"\nrows_over = {cap}' for cap in (10, 5, 20))), asked(HUMAN, CUSTOMERS))
    assert (found.outcome, found.rule, found.rows_over) == ("limit", "r1", 5)


def test_masks_add_up_whatever_the_outcome():
    text = rules('outcome = "mask"\nclasses = ["email"]', 'outcome = "mask"\nclasses = ["iban"]', 'outcome = "block"')
    assert decide(text, asked(HUMAN, CUSTOMERS)).mask == {"email", "iban"}
    masks = rules('outcome = "mask"\nclasses = ["iban"]')
    assert (decide(masks, asked(HUMAN, CUSTOMERS)).outcome, decide(masks, asked(HUMAN, UNKNOWN)).outcome) == (
        "allow",
        "mask",
    )
    assert decide(masks, asked(HUMAN, CUSTOMERS)).mask == {"iban"}
    assert decide(masks, asked(HUMAN, opaque=True)).outcome == "mask"


FIRST = 'outcome = "allow"\nfirst = true\nverbs = ["insert"]\nrelations = ["public.log"]'
LOG = Touch("insert", "", "public", "log")


def test_a_rule_that_opens_first_opens_only_what_it_covers_whole():
    opened = rules(FIRST, 'outcome = "block"')
    assert decide(opened, asked(AGENT, LOG)).rule == "r0"
    assert decide(opened, asked(AGENT, LOG, CUSTOMERS)).outcome == "block"
    assert decide(opened, asked(AGENT, LOG, opaque=True)).outcome == "block"
    assert decide(opened, asked(AGENT)).outcome == "block"
    commands = rules('outcome = "allow"\nfirst = true\ncommands = ["VACUUM"]', 'outcome = "block"')
    assert decide(commands, asked(commands=("VACUUM",))).outcome == "allow"
    assert decide(commands, asked(commands=("VACUUM", "DROP TABLE"))).outcome == "block"
    assert decide(commands, asked(commands=())).outcome == "block"


def test_a_rule_that_opens_for_people_is_met_by_an_agents_person_and_never_by_the_name_the_agent_chose():
    opened = rules('outcome = "allow"\nfirst = true\npeople = ["dana@shop.example", "bot"]', 'outcome = "block"')
    assert decide(opened, asked(HUMAN)).outcome == "allow"
    assert decide(opened, asked(AGENT)).outcome == "allow"
    assert decide(opened, asked(AGENT, on_behalf_of="eve@shop.example")).outcome == "block"
    assert decide(opened, asked(AGENT, on_behalf_of=None)).outcome == "block"


def test_a_decision_says_in_a_sentence_what_is_decided_about_which_object_by_which_rule_and_what_to_do():
    text = rules(
        'title = "Nobody reads customers"\noutcome = "block"\nrelations = ["public.customers"]\nhint = "Ask Carol."'
    )
    found = decide(msgspec.structs.replace(text, version=4), asked(HUMAN, CUSTOMERS))
    assert found.sentence == "Reading public.customers is blocked in production by rule r0 (nobody reads customers)."
    assert (found.hint, found.object, found.version, found.sqlstate) == ("Ask Carol.", "public.customers", 4, "42501")
    assert decide(load(""), asked(HUMAN, CUSTOMERS)).sentence == (
        "Reading public.customers is allowed in production: no rule says otherwise."
    )
    limit = decide(rules('outcome = "limit"\nrows_over = 1000'), asked(HUMAN, CUSTOMERS))
    assert limit.sentence == "Reading public.customers is limited to 1,000 rows in production by rule r0."
    opaque = decide(rules('outcome = "approve"\nopaque = true'), asked(opaque=True, reason="runs a code block"))
    assert "(runs a code block) needs another person's approval" in opaque.sentence


INVALID = [
    ("[[rule]]\nid = 'x'\noutcom = 'block'", "x", "outcom", "Did you mean `outcome`?"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nrelation = ['a.b']", "x", "relation", "Did you mean `relations`?"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nzzzzzzzz = 1", "x", "zzzzzzzz", "It may have id, outcome"),
    ("[[rules]]\nid = 'x'", "", "rules", "Did you mean `rule`?"),
    ("[[rule]]\nid = 'x'", "x", "", "outcome"),
    ("[[rule]]\noutcome = 'block'", "number 1", "", "id"),
    ("[[rule]]\nid = 'x'\noutcome = 'deny'", "x", "outcome", "deny"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nverbs = ['select']", "x", "verbs", "select"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nwho = 'agent'", "x", "who", "array"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nopaque = 1", "x", "opaque", "bool"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nopaque = false", "x", "opaque", "says nothing"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nwho = []", "x", "who", "nothing would match"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nrelations = ['customers']", "x", "relations", "with their schema"),
    ("[[rule]]\nid = 'Not So'\noutcome = 'block'", "Not So", "id", "lower-case"),
    ("[[rule]]\nid = 'x'\noutcome = 'limit'", "x", "rows_over", "needs `rows_over`"),
    ("[[rule]]\nid = 'x'\noutcome = 'limit'\nrows_over = 0", "x", "rows_over", "at least 1"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nrows_over = 5", "x", "rows_over", "only with"),
    ("[[rule]]\nid = 'x'\noutcome = 'mask'", "x", "classes", "what to mask"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\nfirst = true", "x", "first", "allow"),
    ("[[rule]]\nid = 'x'\noutcome = 'block'\n[[rule]]\nid = 'x'\noutcome = 'block'", "x", "id", "Give each its own"),
    ("[[rule]", None, None, "not TOML"),
    ("version = 'x'", None, None, "version"),
]


@pytest.mark.parametrize(("text", "rule", "field", "words"), INVALID)
def test_a_text_that_cannot_be_meant_is_refused_with_rule_and_field(text, rule, field, words):
    with pytest.raises(errors.GuardrailsInvalid) as refused:
        load(text)
    assert words in str(refused.value)
    if rule is not None:
        assert (refused.value.fields["rule"], refused.value.fields["field"]) == (rule, field)
    assert (refused.value.code, refused.value.status) == ("guardrails-invalid", 422)


def test_the_digest_is_that_of_the_text():
    assert load("# a").digest != load("# b").digest
    assert re.fullmatch("[0-9a-f]{64}", DEFAULT.digest)
    assert (DEFAULT.version, load(DEFAULT.text).digest) == (0, DEFAULT.digest)
    assert all(rule.title for rule in DEFAULT.rules)


PRODUCTION = [
    (HUMAN, Touch("delete", "", "public", "t", unconditional=True), ("DELETE",), "block"),
    (SERVICE, Touch("update", "", "public", "t", unconditional=True), ("UPDATE",), "block"),
    (HUMAN, Touch("truncate", "", "public", "t"), ("TRUNCATE TABLE",), "block"),
    (SERVICE, Touch("ddl", "", "public", "t"), ("DROP TABLE",), "block"),
    (HUMAN, Touch("privilege", "", "public", "t"), ("GRANT",), "block"),
    (HUMAN, Touch("update", "", "public", "t", keys=1), ("UPDATE",), "allow"),
    (HUMAN, Touch("update", "", "public", "t"), ("UPDATE",), "approve"),
    (SERVICE, Touch("update", "", "public", "t"), ("UPDATE",), "allow"),
    (AGENT, Touch("update", "", "public", "t", keys=1), ("UPDATE",), "approve"),
    (HUMAN, CUSTOMERS, ("SELECT",), "limit"),
    (AGENT, CUSTOMERS, ("SELECT",), "limit"),
    (SERVICE, CUSTOMERS, ("SELECT",), "allow"),
    (HUMAN, Touch("delete", "", "pg_temp", "mine", unconditional=True), ("DELETE",), "allow"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "touch", "commands", "expected"), PRODUCTION)
def test_the_default_profile_protects_production(who, touch, commands, expected):
    assert decide(DEFAULT, asked(who, touch, commands=commands)).outcome == expected


def test_the_default_profile_masks_everything_for_agents_and_secrets_for_people():
    assert decide(DEFAULT, asked(AGENT, CUSTOMERS)).mask == {"*"}
    assert decide(DEFAULT, asked(HUMAN, CUSTOMERS)).mask == {"secret", "card"}
    assert decide(DEFAULT, asked(SERVICE, CUSTOMERS)).mask == frozenset()


def test_the_default_profile_holds_agents_to_person_and_purpose_everywhere():
    change = Touch("insert", "", "public", "t")
    for environment in ("production", "test"):
        assert decide(DEFAULT, asked(AGENT, change, environment=environment)).outcome == "approve"
        for lost in ({"purpose": None}, {"on_behalf_of": None}):
            assert decide(DEFAULT, asked(AGENT, change, environment=environment, **lost)).rule == (
                "agents-name-person-and-purpose"
            )
    assert decide(DEFAULT, asked(HUMAN, change, environment="test")).outcome == "allow"


def test_the_default_profile_never_lets_anybody_weaken_the_capture():
    for who in (HUMAN, AGENT, SERVICE):
        for environment in ("production", "test", ""):
            found = decide(DEFAULT, asked(who, weakens=("sets pgaudit.log to 'none'",), environment=environment))
            assert (found.outcome, found.rule) == ("block", "no-weakening")


WORDS = st.sampled_from(["production", "test", "*", "prod*"])
TEXTS = {
    "environments": WORDS, "verbs": st.sampled_from(["read", "insert", "update", "delete", "ddl", "opaque"]),
    "commands": st.sampled_from(["DROP *", "SELECT", "*"]), "who": st.sampled_from(["human", "service", "agent"]),
    "people": st.sampled_from(["dana@*", "*", "eve"]), "except_people": st.sampled_from(["dana@*", "bot", "x"]),
    "relations": st.sampled_from(["public.customers", "*.orders", "*"]), "classes": st.sampled_from(["email", "*"]),
}  # fmt: skip


@st.composite
def rule_texts(draw, outcome: str = "") -> str:
    made = outcome or draw(st.sampled_from(["block", "approve", "limit", "mask", "allow"]))
    fields = {name: [draw(values)] for name, values in TEXTS.items() if draw(st.booleans())}
    if made == "mask":
        fields.setdefault("classes", ["email"])
    lines = [f"{name} = {str(value).replace(chr(39), chr(34))}" for name, value in fields.items()]
    if made == "limit":
        lines.append(f"rows_over = {draw(st.integers(1, 50))}")
    if made == "allow" and draw(st.booleans()):
        lines.append("first = true")
    lines += [
        f"{flag} = true" for flag in ("opaque", "unconditional", "bulk", "weakens") if draw(st.integers(0, 5)) == 0
    ]
    return "\n".join([f'outcome = "{made}"', *lines])


TOUCHES = st.builds(
    Touch,
    verb=st.sampled_from(["read", "insert", "update", "delete", "ddl"]),
    schema=st.sampled_from([None, "public", "s"]),
    relation=st.sampled_from([None, "customers", "orders"]),
    keys=st.sampled_from([None, 1]),
    certainty=st.sampled_from(["exact", "assumed"]),
    classes=st.sampled_from([(), ("email",), ("unknown",)]),
    unconditional=st.booleans(),
)
QUESTIONS = st.builds(
    lambda who, touches, **more: msgspec.structs.replace(who, touches=tuple(touches), **more),
    who=st.sampled_from([HUMAN, AGENT, SERVICE]),
    touches=st.lists(TOUCHES, max_size=3),
    environment=st.sampled_from(["production", "test"]),
    commands=st.sampled_from([(), ("SELECT",), ("DROP TABLE",)]),
    opaque=st.booleans(),
)
GRAVITY = {"allow": 0, "mask": 1, "limit": 2, "approve": 3, "block": 4}


@settings(max_examples=150, deadline=None)
@given(before=st.lists(rule_texts(), max_size=4), more=rule_texts("block"), place=st.integers(0, 4), what=QUESTIONS)
def test_one_more_rule_that_blocks_never_makes_a_decision_weaker(before, more, place, what):
    old, new = decide(rules(*before), what), decide(rules(*before[:place], more, *before[place:]), what)
    assert GRAVITY[new.outcome] >= GRAVITY[old.outcome]
    assert new.mask >= old.mask


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(rule_texts(), max_size=4), what=QUESTIONS)
def test_every_decision_is_a_sentence_of_the_same_answer_each_time(texts, what):
    found = decide(rules(*texts), what)
    assert found == decide(rules(*texts), what)
    assert found.sentence.endswith(".")
    assert found.sentence[0].isupper()
    assert (found.rows_over is not None) >= (found.outcome == "limit")
