"""A webhook's name is looked up once for each sending: what was checked is what is connected to, as the host that was named."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lineage import errors
from lineage.finding_models import Receiver, Telling
from lineage.findings import judging, receivers, telling
from tests.enforcement.gateway.running import Authority
from tests.lineage.test_telling import act, receiver

pytestmark = pytest.mark.slow

METADATA = "169.254.169.254"


class Names:
    """Looks names up: each time the next answer. One that turns between check and sending is how rebinding goes."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in self.answers.pop(0)]


class Hook:
    """A webhook on the loopback address, with TLS where it has certificates: what it was sent, as which host, by which TLS name."""

    def __init__(self, certificates: Authority | None = None) -> None:
        self.got, self.names = list[tuple[str, str]](), list[str | None]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((str(self.headers["Host"]), self.path))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate, certificates.key)
            context.sni_callback = lambda _, name, __: self.names.append(name)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    one = Hook()
    yield one
    one.server.shutdown()
    one.server.server_close()


def told(address: str, names: Names) -> tuple[bool, str]:
    """Whether a finding was taken at this address, and what stands beside it."""
    Receiver.objects.update(address=address)
    Telling.objects.update(next_at="2026-01-01T00:00Z")
    return telling.tell_one(Receiver.objects.get().pk, names), Telling.objects.get().answer


@pytest.fixture
def waiting(store: str) -> None:
    """One finding that a receiver is to be told of."""
    receiver("http://127.0.0.1:9/")
    act()
    judging.judge()


def test_a_name_that_turns_after_the_check_leads_nowhere_else(waiting: None, hook: Hook) -> None:
    names = Names([METADATA], ["127.0.0.1", METADATA], ["127.0.0.1"], [METADATA])
    address = f"http://hooks.example:{hook.port}/a?b=c"
    for _ in range(2):
        taken, answer = told(address, names)
        assert not taken
        assert "link-local" in answer
        assert hook.got == []
    assert told(address, names) == (True, "HTTP 200")
    assert names.asked == ["hooks.example"] * 3, "once for each sending"
    assert names.answers == [[METADATA]], "the answer that turned was never asked for"
    assert hook.got == [(f"hooks.example:{hook.port}", "/a?b=c")]


def test_by_tls_the_certificate_is_that_of_the_name_whatever_the_address(
    waiting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    hook = Hook(certificates)
    taken, answer = told(f"https://hooks.example:{hook.port}/", Names(["127.0.0.1"]))
    assert (taken, answer, hook.got) == (False, "no answer", [])
    assert told(f"https://localhost:{hook.port}/", Names(["127.0.0.1"])) == (True, "HTTP 200")
    assert hook.names == ["hooks.example", "localhost"]
    assert hook.got == [(f"localhost:{hook.port}", "/")]
    hook.server.shutdown()
    hook.server.server_close()


@pytest.mark.parametrize("address", [METADATA, "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "0.0.0.0", "224.0.0.1"])
def test_no_address_beyond_the_networks_of_people_is_one(address: str) -> None:
    with pytest.raises(errors.ReceiverInvalid):
        receivers.addresses_of("https://hooks.example/", Names([address]))
    assert receivers.addresses_of("http://hooks.example/", Names(["127.0.0.1"])) == ["127.0.0.1"]
    with pytest.raises(errors.ReceiverInvalid, match="begins with https"):
        receivers.addresses_of("http://hooks.example/", Names(["127.0.0.1", "8.8.8.8"]))
