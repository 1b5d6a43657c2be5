"""csvlog, on what a real server wrote; the meaning of log records is tested here for all carriers."""

import csv
import hashlib
import io

from lineage.events import Event, Quarantined, Skipped
from tests.lineage.sources import golden
from tests.lineage.sources.golden import csv_line, one, only_events, with_text

AUDIT = 'AUDIT: SESSION,8,1,READ,SELECT,TABLE,public.customers,"select 1, 2",<none>,1'


def real() -> list[Event]:
    return only_events("postgres-csvlog", golden.read("postgresql-15.csv"))


def test_every_record_of_a_real_file_is_read_and_none_is_quarantined():
    outputs = golden.parse("postgres-csvlog", golden.read("postgresql-15.csv"))
    assert len(outputs) == 126
    assert not [output for output in outputs if isinstance(output, Quarantined)]
    assert sum(isinstance(output, Skipped) for output in outputs) == 24


def test_a_read_names_login_client_session_transaction_relation_and_rows():
    (event,) = with_text(real(), "select * from customers where id = 4711;")
    assert (event.kind, event.class_, event.op, event.command, event.verdict) == (
        "query",
        "read",
        "read",
        "SELECT",
        "allowed",
    )
    assert event.actor.db_user == event.database == "postgres"
    assert (event.client.ip, event.client.app) == ("127.0.0.1", "psql")
    assert event.client.port > 0
    assert event.source_event_id == f"{event.db_session_id}/14"
    assert event.correlation_id == f"{event.db_session_id}/9.1"
    assert (event.transaction.id, event.transaction.vid) == (None, "3/66")
    assert [(r.schema, r.relation, r.kind, r.access) for r in event.resources] == [
        ("public", "customers", "table", "read")
    ]
    assert (event.rows.returned, event.rows.affected) == (1, None)
    assert (event.occurred_at, event.occurred_at_quality) == ("2026-11-21T04:35:20.555000Z", "source")


def test_a_write_carries_its_transaction_id_and_the_rows_it_affected():
    (event,) = with_text(real(), "update customers\n   set name")
    assert event.transaction.id == "744"
    assert (event.rows.returned, event.rows.affected) == (None, 1)
    assert event.statement.text == "update customers\n   set name = 'multi\nline, \"quoted\"'\n where id = 4711;"


def test_quoted_names_are_unquoted_and_split():
    (event,) = with_text(real(), "returning id")
    assert [(r.schema, r.relation) for r in event.resources] == [("My Schema", 'odd, "name')]


def test_a_constraint_is_named_by_its_table():
    kinds = {r.kind: (r.schema, r.relation) for e in real() if e.command == "DROP TABLE" for r in e.resources}
    assert kinds["table constraint"] == ("My Schema", 'odd, "name')
    assert kinds["index"] == ("My Schema", 'odd, "name_pkey')


def test_copy_is_an_export_or_an_import_and_its_zero_rows_are_unknown():
    found = {(e.op, e.class_, e.rows) for e in real() if e.command == "COPY"}
    assert found == {("export", "export", None), ("import", "write", None)}
    (select,) = [e for e in with_text(real(), "copy (select id") if e.command == "SELECT"]
    assert (select.op, select.rows.returned) == ("export", 2)


def test_classes_and_commands_become_operations():
    ops = {e.command: e.op for e in real() if e.correlation_id}
    assert ops["TRUNCATE TABLE"] == "truncate"
    assert ops["CREATE TABLE"] == ops["ALTER TABLE"] == ops["CREATE FUNCTION"] == "ddl"
    assert ops["CREATE ROLE"] == ops["GRANT"] == "privilege"
    assert ops["DO"] == "procedural"
    assert ops["BEGIN"] == ops["SET"] == "other"


def test_truncate_and_ddl_do_not_say_zero_rows():
    assert {e.rows for e in real() if e.op in ("truncate", "ddl", "privilege", "other") and e.correlation_id} == {None}


def test_a_statement_that_the_source_withheld_says_so():
    withheld = [e for e in real() if e.statement and e.statement.state == "withheld"]
    assert {e.statement.redaction for e in withheld} == {"withheld_by_source"}
    assert {e.statement.text for e in withheld} == {None}
    assert sum("previously_logged" in e.flags for e in withheld) == 1


def test_a_redacted_password_is_marked_as_redacted():
    found = with_text(real(), "create role alice")
    assert [(e.statement.text, e.statement.redaction) for e in found] == [
        ("create role alice login password <REDACTED>", "literals")
    ]


def test_bind_values_are_read_and_an_empty_one_is_not_taken_for_an_empty_string():
    (prepared,) = [e for e in with_text(real(), "prepare p(") if e.command == "SELECT"]
    assert [(p.position, p.value) for p in prepared.parameters] == [(1, "4711"), (2, 'a,b "q"')]
    (update,) = [e for e in with_text(real(), "update customers set name=$1") if e.correlation_id]
    assert [(p.state, p.value) for p in update.parameters] == [("unavailable", None), ("present", "4711")]


def test_an_execute_line_tells_null_from_empty_and_is_flagged_as_statement_log():
    (event,) = [e for e in with_text(real(), "update customers set name=$1") if "statement_log" in e.flags]
    assert [(p.position, p.state, p.value) for p in event.parameters] == [(1, "null", None), (2, "present", "4711")]
    assert (event.op, event.verdict, event.transaction.id) == ("update", "allowed", "756")
    assert event.duration_us > 0


def test_a_statement_line_written_before_it_ran_claims_no_outcome():
    (event,) = [e for e in with_text(real(), "select 2;") if "statement_log" in e.flags]
    assert (event.verdict, event.duration_us) == ("unknown", None)


def test_the_name_of_a_prepared_statement_cannot_pass_for_its_text():
    line = csv_line("duration: 1.000 ms  execute x: select 1 --: drop table customers", tag="DROP TABLE")
    event = one("postgres-csvlog", line)
    assert (event.op, event.class_, event.command) == ("ddl", "ddl", "DROP TABLE")


def test_a_denied_statement_is_blocked_and_others_are_errors():
    failed = {e.error.code: e for e in real() if e.error and e.kind == "query"}
    assert {code: e.verdict for code, e in failed.items()} == {"42501": "blocked", "23505": "error", "42P01": "error"}
    assert (failed["42501"].actor.db_user, failed["42501"].op) == ("alice", "delete")
    assert failed["42501"].statement.text == "delete from customers"


def test_sessions_start_end_and_fail():
    sessions = [e for e in real() if e.kind == "session"]
    assert {e.session.auth_method for e in sessions if e.session.auth_method} == {"scram-sha-256"}
    failed = {e.error.code: e.verdict for e in sessions if e.session.phase == "failed"}
    assert failed == {"28P01": "blocked", "3D000": "error"}
    ended = [e for e in sessions if e.session.phase == "end"]
    assert all(e.duration_us and e.session.ended_at == e.occurred_at and e.session.started_at for e in ended)


def test_restarts_and_changed_settings_are_custody():
    told = {(e.custody.subject, e.custody.detail) for e in real() if e.custody and e.custody.type == "alarm"}
    assert ("server", "database system is ready to accept connections") in told
    assert ("server", "received fast shutdown request") in told
    assert ("setting", 'parameter "work_mem" changed to "8MB"') in told


def test_the_value_of_a_secret_setting_is_not_kept():
    event = one("postgres-csvlog", csv_line('parameter "primary_conninfo" changed to "password=hunter2"'))
    assert event.custody.detail == 'parameter "primary_conninfo" changed'


def test_a_record_raised_by_a_function_is_a_finding_and_never_an_access():
    findings = [e for e in real() if "suspected_forgery" in e.flags]
    assert [(e.kind, e.custody.type, e.custody.subject) for e in findings] == [
        ("custody", "finding", "forged log line")
    ]
    assert "public.secret" in findings[0].statement.text
    assert findings[0].actor.db_user == "postgres"
    assert not [e for e in real() for r in e.resources if r.relation == "secret"]


def test_lines_of_other_kinds_are_forged_in_the_same_way():
    for message in (
        AUDIT,
        "connection authorized: user=admin database=shop",
        "disconnection: session time: 0:00:01.000 user=admin",
        "duration: 1.000 ms  statement: drop table t",
        "statement: drop table t",
        'parameter "fsync" changed to "off"',
        "database system is ready to accept connections",
    ):
        for column in ({"context": "PL/pgSQL function f() line 1 at RAISE"}, {"query": "select f()"}):
            event = one("postgres-csvlog", csv_line(message, **column))
            assert (event.kind, event.custody.type) == ("custody", "finding"), message


def test_audit_text_of_another_form_is_a_finding():
    event = one("postgres-csvlog", csv_line("AUDIT: something else"))
    assert (event.kind, event.custody.type, event.resources) == ("custody", "finding", ())


def test_the_columns_of_older_versions_are_enough():
    fields = csv_line(AUDIT).decode().rsplit(",", 3)
    for line in (",".join(fields[:-2]), csv_line(AUDIT).decode().rsplit(",", 2)[0]):
        event = one("postgres-csvlog", line.encode())
        assert (event.op, event.verdict, event.flags) == ("read", "allowed", ())


def test_a_record_cut_off_at_the_end_is_kept_and_proves_nothing():
    whole = csv_line(AUDIT)
    cut = whole[: whole.index(b"select 1") + 8]
    events = only_events("postgres-csvlog", csv_line("statement: select 1", line="1") + b"\n" + cut)
    assert events[1].statement.text == "select 1"
    assert (events[1].flags, events[1].verdict) == (("truncated",), "unknown")


def test_an_unterminated_statement_swallows_the_rest_so_that_its_lines_cannot_pass_for_records():
    torn = csv_line("statement: x")[:-30].replace(b'"statement', b'"statement "" "')
    body = torn + b"\n" + csv_line(AUDIT)
    assert not [e for e in only_events("postgres-csvlog", body) if e.resources]


def test_what_is_no_log_record_is_quarantined_byte_for_byte():
    output = one("postgres-csvlog", b"a,b\xff,c")
    assert isinstance(output, Quarantined)
    assert (output.body, output.code, output.position) == (b"a,b\xff,c", "columns", "0")


def test_invalid_utf8_and_nul_are_replaced_visibly_and_flagged():
    event = one("postgres-csvlog", csv_line(AUDIT).replace(b"select 1", b"select '\xff\0'"))
    assert event.statement.text == "select '\ufffd\u2400', 2"
    assert event.flags == ("invalid_utf8", "nul_removed")


def test_a_statement_of_a_megabyte_is_truncated_with_length_and_hash():
    text = "select '" + "é" * 500_000 + "'"
    event = one("postgres-csvlog", csv_line(f"AUDIT: SESSION,8,1,READ,SELECT,TABLE,public.t,{text},<none>,1"))
    assert (event.statement.state, event.statement.length) == ("truncated", len(text.encode()))
    assert event.statement.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert "truncated" in event.flags
    assert event.verdict == "allowed"


def test_numbers_beyond_the_model_are_left_out_and_lose_nothing_else():
    event = one("postgres-csvlog", csv_line(AUDIT[:-1] + "99999999999999999999", txid="99999999999999999999"))
    assert event.statement.text == "select 1, 2"
    assert (event.rows, event.transaction.id) == (None, "99999999999999999999")


def test_a_canary_is_flagged():
    assert [e.flags for e in with_text(real(), "touchstone-canary 123e4567")] == [("canary",)]


def test_an_ambiguous_zone_is_said_and_a_declared_one_resolves_it():
    line = csv_line(AUDIT, time="2026-11-21 04:35:20.553 CST")
    assert one("postgres-csvlog", line).occurred_at_quality == "assumed_zone"
    central = one("postgres-csvlog", line, timezone="America/Chicago")
    assert (central.occurred_at, central.occurred_at_quality) == ("2026-11-21T10:35:20.553000Z", "source")
    wrong = one("postgres-csvlog", line, timezone="Europe/Berlin")
    assert wrong.occurred_at_quality == "assumed_zone"
    assert one("postgres-csvlog", line, timezone="No/Zone").occurred_at_quality == "assumed_zone"


def test_the_doubled_hour_of_autumn_is_told_by_its_abbreviation():
    times = [
        one(
            "postgres-csvlog", csv_line(AUDIT, time=f"2026-10-25 02:30:00.000 {zone}"), timezone="Europe/Berlin"
        ).occurred_at
        for zone in ("CEST", "CET")
    ]
    assert times == ["2026-10-25T00:30:00.000000Z", "2026-10-25T01:30:00.000000Z"]


def test_a_numeric_offset_is_exact():
    event = one("postgres-csvlog", csv_line(AUDIT, time="2026-11-21 04:35:20.553 +0530"))
    assert (event.occurred_at, event.occurred_at_quality) == ("2026-11-20T23:05:20.553000Z", "source")


def test_a_time_that_does_not_exist_is_quarantined():
    assert one("postgres-csvlog", csv_line(AUDIT, time="2026-02-30 04:35:20.553 UTC")).code == "time"


def test_severities_in_another_language_are_told_by_the_state_code():
    event = one("postgres-csvlog", csv_line("keine Berechtigung", severity="FEHLER", state="42501", query="select 1"))
    assert (event.verdict, event.op) == ("blocked", "read")


def test_origin_is_the_hash_of_the_record_as_received_with_its_place():
    raw = csv_line(AUDIT)
    event = one("postgres-csvlog", golden.feed_of([raw + b"\n"], first=17), feed=True)
    assert event.origin.sha256 == hashlib.sha256(raw).hexdigest()
    assert (event.origin.position, event.sequence) == ("log:17", 17)
    assert one("postgres-csvlog", raw).origin.sha256 == event.origin.sha256


def test_a_feed_gives_one_output_for_each_item_in_order():
    records = list(csv.reader(io.StringIO(golden.read("postgresql-15.csv").decode(), newline="")))
    assert len(records) == 126
    raws = [csv_line("checkpoint starting: time"), b"nonsense", csv_line(AUDIT)]
    outputs = golden.parse("postgres-csvlog", golden.feed_of(raws), feed=True)
    assert [type(output) for output in outputs] == [Skipped, Quarantined, Event]
    assert [output.sequence for output in outputs] == [1, 2, 3]
    assert outputs[1].position == "1"


def test_a_record_that_the_collector_cut_is_flagged_and_proves_nothing():
    line = golden.feed_of([csv_line(AUDIT)])[:-1] + b',"truncated":{"length":9000000}}'
    event = one("postgres-csvlog", line, feed=True)
    assert (event.flags, event.verdict) == (("truncated",), "unknown")


def test_reasons_hold_nothing_of_the_row():
    for body in (csv_line("4711 secret", severity="?secret?"), b"secret,4711", csv_line(AUDIT, time="secret")):
        assert "secret" not in one("postgres-csvlog", body).reason
