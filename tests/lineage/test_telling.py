"""Receivers are told once, signed and within seconds, also after they were away and after a kill in the middle."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import Client

from lineage import errors, keeper, queries, reach, steward
from lineage.access import Viewer
from lineage.finding_models import Finding, Receiver, Telling
from lineage.findings import forgetting, judging, receivers, telling
from tests import story

pytestmark = pytest.mark.slow

SIGRID = Viewer("sigrid@example.test", "security")
ALL = Viewer("audit@example.test", "auditor")
SECRET_VALUE = "amount-4711-secret"
WITHIN_SECONDS = 30


class OnCall:
    """A webhook that keeps what it is sent; it can be away, answer otherwise, or hold its answer back."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.open = 200, threading.Event()
        self.open.set()
        self.port = 0
        self.server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                outer.open.wait(WITHIN_SECONDS)
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/abc"


@pytest.fixture
def on_call() -> Iterator[OnCall]:
    one = OnCall()
    yield one
    one.open.set()
    one.stop()


def wait_for(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def receiver(url: str, **more: Any) -> tuple[Receiver, str]:
    given = {"name": "on call", "kind": "webhook", "address": url, "severity": "medium", "is_on": True}
    return receivers.establish(SIGRID, given | more, "on call wants to know")


def act(n: int = 1) -> None:
    """The agent empties a table; the statement holds a value that no message may hold."""
    now = dt.datetime.now(dt.UTC)
    behalf = {"on_behalf_of": {"id": "dana@shop.example"}}
    desk = story.Source.objects.filter(name="desk").first() or story.source()
    story.send(
        desk,
        story.query(
            f"x{n}",
            now,
            story.BOT,
            f"update payments set state = 'x' where note = '{SECRET_VALUE}'",
            "update",
            **behalf,
        ),
    )


def genuine(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """What docs/findings.md tells a receiver to do, in its own few lines."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and f"v1,{wanted}" in headers["webhook-signature"].split()


def test_a_look_back_that_takes_too_long_does_not_keep_what_is_new_from_being_judged(store: str, settings: Any) -> None:
    act()
    looks = judging.Judging()
    usual, settings.QUERY_SECONDS = settings.QUERY_SECONDS, 0
    settings.GRACE_SECONDS = 0
    with pytest.raises(errors.QueryTooLong):
        looks()
    assert not Finding.objects.exists()
    settings.QUERY_SECONDS = usual
    looks.not_before = 0
    looks()
    assert Finding.objects.exists()
    assert looks.again_at > time.monotonic(), "what is behind is not looked at again yet"


def test_an_agents_act_reaches_the_webhook_once_signed_without_values_and_the_page_proves_it(
    store: str, on_call: OnCall
) -> None:
    act(0)
    _, secret = receiver(on_call.url)
    act(1)
    tellers = telling.Tellers()
    began = time.monotonic()
    judging.Judging()()
    wait_for(lambda: tellers() or Telling.objects.filter(told_at__isnull=False).exists(), "it is told")
    assert time.monotonic() - began < WITHIN_SECONDS
    judging.Judging()()
    assert telling._due() == []
    ((headers, body),) = on_call.got
    assert genuine(secret, headers, body)
    assert not genuine(secret, headers, body.replace(b"dana", b"omar"))
    assert SECRET_VALUE not in body.decode()
    told = json.loads(body)
    assert told["text"].startswith(
        "[medium] Write by an agent, not approved: The agent report-bot wrote to payments, for dana@"
    )
    ours = told["touchstone"]
    assert ours["rule"] == "agent-write"
    assert ours["record"] == Finding.objects.get(pk=ours["finding"]).first_index
    assert Finding.objects.count() == 2, "what was there before the receiver is kept, and not told"
    proof = queries.finding(ALL, told["touchstone"]["finding"])
    assert [(t["receiver"], t["tries"], t["answer"]) for t in proof["told"]] == [("on call", 1, "HTTP 200")]
    assert [(t["kind"], t["address"]) for t in proof["told"]] == [("webhook", None)], "where is for who sets receivers"
    assert queries.finding(SIGRID, ours["finding"])["told"][0]["address"] == f"http://127.0.0.1:{on_call.port}/…"
    assert "told to on call: HTTP 200" in [row["custody"]["detail"] for row in proof["history"]]
    assert Telling.objects.get().body is None
    client = Client()
    client.force_login(story.person("alice@audit.example", "auditor"))
    page = client.get(f"/findings/{told['touchstone']['finding']}/").content.decode()
    assert headers["webhook-id"] in page
    assert "127.0.0.1" not in page


def test_a_receiver_that_was_away_is_told_afterwards_once_and_holds_up_nobody(store: str, on_call: OnCall) -> None:
    slow, other = on_call, OnCall()
    one, _ = receiver(slow.url)
    receiver(other.url, name="other")
    slow.stop()
    act(1)
    act(2)
    judging.judge()
    tellers = telling.Tellers()
    wait_for(lambda: tellers() or len(other.got) == 2, "the other is told meanwhile")
    wait_for(lambda: tellers() or Telling.objects.filter(receiver=one, tries__gte=1).exists(), "it was tried")
    waiting = Telling.objects.filter(receiver=one, told_at=None)
    assert waiting.filter(tries__gte=1, answer="no answer").exists()
    assert waiting.count() == 2
    slow.start()
    slow.status = 503
    waiting.update(next_at=dt.datetime.now(dt.UTC))
    wait_for(lambda: tellers() or slow.got, "it is tried again")
    slow.status = 200
    wait_for(lambda: Telling.objects.filter(receiver=one, answer="HTTP 503").exists(), "its refusal is noted")
    waiting.update(next_at=dt.datetime.now(dt.UTC))
    wait_for(lambda: tellers() or not waiting.exists(), "it is told in the end")
    taken = [headers["webhook-id"] for headers, _ in slow.got[1:]]
    assert len(taken) == len(set(taken)) == 2
    assert slow.got[0][0]["webhook-id"] in taken, "what was refused comes again under the same id"
    other.stop()


def test_a_teller_killed_before_its_mark_sends_the_same_id_again(store: str, on_call: OnCall) -> None:
    one, secret = receiver(on_call.url)
    act()
    judging.judge()
    on_call.open.clear()
    connections.close_all()
    child = os.fork()
    if not child:
        telling.tell_one(one.pk)
        os._exit(0)
    wait_for(lambda: on_call.got, "the child sends")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    on_call.open.set()
    wait_for(lambda: telling.tell_one(one.pk), "it is told by another")
    assert telling.tell_one(one.pk) is False
    first, second = on_call.got
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert first[1] == second[1]
    assert genuine(secret, *second)
    assert Telling.objects.get().told_at is not None


def test_mail_is_told_too_and_the_keeper_does_both_rounds(store: str) -> None:
    given = {"name": "desk", "kind": "mail", "address": "oncall@shop.example", "severity": "low", "is_on": True}
    receivers.establish(SIGRID, given | {"rules": ["agent-write"]}, "mail")
    act()
    judging.judge()
    one = Receiver.objects.get()
    assert telling.tell_one(one.pk)
    (sent,) = mail.outbox
    assert sent.subject == "[medium] Write by an agent, not approved: orders-prod"
    assert SECRET_VALUE not in sent.body
    assert sent.extra_headers["Message-ID"] == f"<{Telling.objects.get().message_id}@touchstone>"
    act(2)
    judging.judge()
    forgetting.PLACE.forget_texts(["dana@shop.example"])
    assert telling.tell_one(one.pk) is False
    assert Telling.objects.get(told_at=None).answer == forgetting.GONE
    act(3)
    judging.judge()
    receivers.establish(SIGRID, given | {"rules": ["agent-write"], "is_on": False}, "holidays")
    receivers.establish(SIGRID, given | {"rules": ["agent-write"]}, "back")
    off = Telling.objects.latest("pk")
    assert (off.body, off.answer, telling.tell_one(one.pk)) == (None, receivers.OFF, False)
    Receiver.objects.update(is_on=False)
    Telling.objects.filter(pk=off.pk).update(body="late", answer="")
    telling.Tellers()()
    assert Telling.objects.get(pk=off.pk).body == "late"
    Finding.objects.update(found_at=dt.datetime.now(dt.UTC) - telling.GIVE_UP)
    telling.Tellers()()
    assert not Telling.objects.exclude(body=None).exists()
    assert forgetting.PLACE in reach.places
    assert {"findings", "telling"} <= {each.name for each in (*keeper.rounds(), *steward.rounds()) if each.apart}


@pytest.mark.parametrize(
    ("viewer", "change", "code"),
    [
        (ALL, {}, "access-denied"),
        (Viewer("s@x.test", "security", ("orders-prod",)), {}, "access-denied"),
        (SIGRID, {"address": "http://169.254.169.254/latest"}, "receiver-invalid"),
        (SIGRID, {"address": "file:///etc/passwd"}, "receiver-invalid"),
        (SIGRID, {"address": "http://user:word@127.0.0.1/"}, "receiver-invalid"),
        (SIGRID, {"address": "http://:word@127.0.0.1/"}, "receiver-invalid"),
        (SIGRID, {"address": "http://@127.0.0.1/"}, "receiver-invalid"),
        (SIGRID, {"address": "http://8.8.8.8/x"}, "receiver-invalid"),
        (SIGRID, {"rules": ["no-such-rule"]}, "receiver-invalid"),
        (SIGRID, {"name": "<script>"}, "receiver-invalid"),
        (SIGRID, {"kind": "mail"}, "receiver-invalid"),
    ],
)
def test_a_receiver_that_cannot_be_is_refused_and_recorded(
    store: str, viewer: Viewer, change: dict[str, Any], code: str
) -> None:
    given = {"name": "on call", "kind": "webhook", "address": "http://127.0.0.1:9/x", "severity": "high", "is_on": True}
    with pytest.raises(errors.TouchstoneError) as refused:
        receivers.establish(viewer, given | change, "why")
    assert refused.value.code == code
    assert not Receiver.objects.exists()
    (record,) = queries.events(ALL, "kind:decision source:touchstone").items
    assert (record["decision"]["transition"], record["purpose"]) == ("refused", code)


def test_a_receivers_secret_is_shown_once_and_its_change_is_a_record_without_it(store: str) -> None:
    client = Client()
    client.force_login(story.person("sigrid@example.test", "security"))
    form = {
        "name": "on call", "kind": "webhook", "address": "http://127.0.0.1:9/hooks/abc", "severity": "high", "is_on": "1",
        "reason": "so that somebody wakes up", "environments": "production",
    }  # fmt: skip
    page = client.post("/findings/receivers/", form).content.decode()
    secret = page.partition("whsec_")[2].partition("<")[0]
    assert base64.b64decode(secret) == receivers.secret_of(Receiver.objects.get())
    again = client.get("/findings/receivers/").content.decode()
    assert secret not in again
    assert "hooks/abc" not in again
    client.post("/findings/receivers/", form | {"severity": "low"})
    told = [
        row
        for row in queries.events(ALL, "kind:decision source:touchstone").items
        if row["decision"]["type"] == "configuration"
    ]
    assert [row["decision"]["subject"] for row in told] == ["receiver on call"] * 2
    assert told[0]["decision"]["transition"] == "changed: severity high → low"
    assert told[1]["decision"]["transition"].startswith("added: on yes; kind webhook; address http://127.0.0.1:9/… (")
    assert not any(secret in str(row) or "hooks/abc" in str(row) for row in told)


def test_a_change_of_a_receiver_with_many_databases_is_told_whole(store: str) -> None:
    names = [f"database-number-{n}" for n in range(30)]
    receiver("http://127.0.0.1:9/hooks/abc", datasources=names)
    receiver("http://127.0.0.1:9/hooks/abc", datasources=names, is_on=False)
    receiver("http://127.0.0.1:9/hooks/abc", datasources=names[:-1], is_on=False, new_secret=True)
    said, off, _ = queries.events(SIGRID, "kind:decision source:touchstone").items
    assert off["decision"]["transition"] == "changed: on yes → no"
    assert "secret" in said["decision"]["transition"]
    whole = json.loads(said["statement"])
    assert (whole["old"]["datasources"], whole["new"]["datasources"]) == (sorted(names), sorted(names[:-1]))
    assert "hooks/abc" not in str((said, off))
