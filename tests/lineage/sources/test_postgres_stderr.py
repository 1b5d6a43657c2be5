"""stderr with declared prefixes, against csvlog of the same server, and against forgeries."""

import msgspec
import pytest

from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources import golden
from tests.lineage.sources.golden import one, only_events, parse, with_text

HEAD = "2026-11-21 04:56:09.852 UTC [15408] alice@shop "
AUDIT = "AUDIT: SESSION,6,1,READ,SELECT,TABLE,public.customers,select 1,<none>,1"


def from_log(*lines: str, prefix: str = golden.DEFAULT) -> list:
    return parse("postgres-stderr", "\n".join(lines).encode(), line_prefix=prefix)


def test_stderr_and_csvlog_of_one_server_tell_the_same():
    from_csv = parse("postgres-csvlog", golden.read("postgresql-15.csv"))
    from_log = parse("postgres-stderr", golden.read("postgresql-15.log"), line_prefix=golden.DEFAULT)
    fields = ("kind", "class_", "op", "verdict", "command", "resources", "rows", "statement", "parameters", "database",
              "occurred_at", "duration_us", "flags")  # fmt: skip
    assert [type(output) for output in from_csv] == [type(output) for output in from_log]
    for one_, other in zip(from_csv, from_log, strict=True):
        if isinstance(one_, Event):
            assert [getattr(one_, name) for name in fields] == [getattr(other, name) for name in fields]


def test_a_prefix_with_every_escape_gives_what_csvlog_gives():
    from_csv = only_events("postgres-csvlog", golden.read("prefix-full.csv"))
    from_log = only_events("postgres-stderr", golden.read("prefix-full.log"), line_prefix=golden.EVERYTHING)
    fields = ("kind", "op", "verdict", "actor", "client", "transaction", "db_session_id", "database", "occurred_at",
              "occurred_at_quality", "session", "statement", "flags")  # fmt: skip
    for one_, other in zip(from_csv, from_log, strict=True):
        assert [getattr(one_, name) for name in fields] == [getattr(other, name) for name in fields]


def test_the_prefix_of_a_managed_database_is_read():
    found = only_events("postgres-stderr", golden.read("prefix-rds.log"), line_prefix=golden.RDS)
    (read,) = with_text(found, "where id = 4711;")[:1]
    assert (read.actor.db_user, read.database, read.client.ip, read.occurred_at) == (
        "postgres", "postgres", "127.0.0.1", "2026-11-21T04:56:09.000000Z"
    )  # fmt: skip
    assert read.client.port > 0
    assert [e.actor.db_user for e in found if e.verdict == "blocked" and e.kind == "query"] == ["alice"]


def test_a_user_name_that_looks_like_a_record_stays_a_user_name():
    found = only_events("postgres-stderr", golden.read("prefix-rds.log"), line_prefix=golden.RDS)
    (failed,) = [e for e in found if e.kind == "session" and e.session.phase == "failed"]
    assert failed.actor.db_user == "x LOG:  AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,q,<none>"
    assert not [e for e in found for r in e.resources if r.relation == "t"]


def test_an_application_name_that_looks_like_a_record_makes_a_finding():
    found = only_events("postgres-stderr", golden.read("prefix-app.log"), line_prefix=golden.WITH_APPLICATION)
    assert not [e for e in found for r in e.resources if r.relation == "t"]
    ambiguous = [e for e in found if e.custody and "more than one way" in (e.custody.detail or "")]
    assert len(ambiguous) == 4
    assert {e.kind for e in ambiguous} == {"custody"}
    assert "select 1;" in ambiguous[1].statement.text


def test_a_raised_record_is_a_finding_by_the_context_line_after_it():
    for name, prefix in (("prefix-rds.log", golden.RDS), ("postgresql-15.log", golden.DEFAULT)):
        found = only_events("postgres-stderr", golden.read(name), line_prefix=prefix)
        (forged,) = [
            e for e in found if e.statement and "public.secret" in (e.statement.text or "") and e.kind == "custody"
        ]
        assert forged.flags == ("suspected_forgery",)
        assert not [e for e in found for r in e.resources if r.relation == "secret"]


def test_a_line_break_and_a_false_prefix_inside_a_statement_stay_in_the_statement():
    found = only_events("postgres-stderr", golden.read("prefix-app.log"), line_prefix=golden.WITH_APPLICATION)
    (event,) = with_text(found, "select 'a\n2026-11-21 04:35:20.553 UTC [1]")
    assert (event.op, event.resources) == ("read", ())


def test_lines_of_another_process_between_an_entry_and_its_context_do_not_hide_the_forgery():
    outputs = from_log(
        HEAD + "LOG:  " + AUDIT,
        HEAD.replace("15408", "99") + "LOG:  " + AUDIT,
        HEAD + "CONTEXT:  PL/pgSQL function f() line 1 at RAISE",
    )
    assert [output.kind for output in outputs] == ["custody", "query"]


def test_a_context_whose_entry_came_earlier_is_a_finding_about_that_entry():
    event = from_log(HEAD + "CONTEXT:  PL/pgSQL function f() line 1 at RAISE")[0]
    assert (event.custody.type, event.custody.subject) == ("finding", "detached log line")
    assert isinstance(from_log(HEAD + "HINT:  try again")[0], Skipped)


def test_an_item_of_a_feed_holds_its_secondary_lines():
    entry = f"{HEAD}LOG:  {AUDIT}\n{HEAD}CONTEXT:  PL/pgSQL function f()\n\tline 2\n{HEAD}STATEMENT:  select f()"
    event = one("postgres-stderr", golden.feed_of([entry.encode()]), feed=True, line_prefix=golden.DEFAULT)
    assert (event.kind, event.sequence) == ("custody", 1)
    assert event.statement.text.endswith("select f()")


def test_secondary_lines_in_items_of_their_own_belong_to_the_item_before():
    items = [f"{HEAD}LOG:  {AUDIT}".encode(), f"{HEAD}CONTEXT:  PL/pgSQL function f()".encode()]
    outputs = parse("postgres-stderr", golden.feed_of(items), feed=True, line_prefix=golden.DEFAULT)
    assert outputs[0].kind == "custody"
    assert isinstance(outputs[1], Skipped)


def test_two_entries_in_one_item_are_quarantined():
    entry = f"{HEAD}LOG:  {AUDIT}\n{HEAD}LOG:  {AUDIT}"
    output = one("postgres-stderr", golden.feed_of([entry.encode()]), feed=True, line_prefix=golden.DEFAULT)
    assert (output.code, output.body) == ("two-entries", entry.encode())


def test_lines_of_other_programs_are_quarantined_in_a_file_and_flagged_in_an_item():
    foreign = "cp: cannot stat 'x'"
    outputs = from_log(HEAD + "LOG:  " + AUDIT, foreign, HEAD + "LOG:  " + AUDIT)
    assert [type(output) for output in outputs] == [Event, Quarantined, Event]
    item = golden.feed_of([f"{HEAD}LOG:  {AUDIT}\n{foreign}".encode()])
    event = one("postgres-stderr", item, feed=True, line_prefix=golden.DEFAULT)
    assert (event.statement.text, event.flags) == ("select 1", ("foreign_line",))


def test_a_continuation_without_a_first_line_is_quarantined():
    assert from_log("\ta line")[0].code == "line-without-prefix"


def test_a_login_that_is_an_email_address_is_split_at_the_last_at_sign():
    event = from_log(HEAD.replace("alice@", "dana@shop.example@") + "LOG:  " + AUDIT)[0]
    assert (event.actor.db_user, event.database) == ("dana@shop.example", "shop")


def test_the_verbose_form_gives_the_state_code():
    event = from_log(HEAD + "ERROR:  42501: permission denied for table customers", HEAD + "STATEMENT:  select 1")[0]
    assert (event.error.code, event.error.message) == ("42501", "permission denied for table customers")


def test_a_session_id_is_made_from_start_time_and_process_as_the_server_makes_it():
    by_server = only_events("postgres-stderr", golden.read("prefix-full.log"), line_prefix=golden.EVERYTHING)
    line = "2026-11-21 04:56:10 UTC 15420: LOG:  received fast shutdown request"
    event = from_log(line, prefix="%s %p: ")[0]
    assert event.db_session_id == by_server[0].db_session_id == "6b01246a.3c3c"


def test_without_a_session_in_the_prefix_none_is_invented():
    event = from_log(HEAD + "LOG:  " + AUDIT)[0]
    assert (event.db_session_id, event.correlation_id) == (None, None)


def test_equal_lines_of_one_body_are_two_events_and_a_resent_body_names_them_alike():
    line = (HEAD + "LOG:  " + AUDIT).encode()
    ids = [e.source_event_id for e in only_events("postgres-stderr", line + b"\n" + line, line_prefix=golden.DEFAULT)]
    assert len(set(ids)) == 2
    again = [e.source_event_id for e in only_events("postgres-stderr", line + b"\n" + line, line_prefix=golden.DEFAULT)]
    assert again == ids


def test_the_default_prefix_is_the_servers_own():
    event = one("postgres-stderr", f"2026-11-21 04:56:09.852 UTC [15408] LOG:  {AUDIT}".encode())
    assert (event.op, event.actor) == ("read", None)


@pytest.mark.parametrize("prefix", ["", "%", "%q%q", "%-10u|%5p ", "((%u", "%z", "%m" * 50])
def test_a_prefix_that_is_not_the_files_own_invents_nothing(prefix):
    outputs = parse("postgres-stderr", golden.read("postgresql-15.log"), line_prefix=prefix)
    assert not [output for output in outputs if isinstance(output, Event) and output.resources]


def test_a_padded_escape_is_trimmed():
    event = from_log("alice     |15408 LOG:  statement: select 1", prefix="%-10u|%5p ")[0]
    assert event.actor.db_user == "alice"


def test_a_line_of_many_severities_is_read_in_bounded_time():
    line = HEAD + "LOG:  " * 200_000
    (event,) = from_log(line)
    assert msgspec.json.encode(event)
