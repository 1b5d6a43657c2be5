"""A timestamp authority on this machine, for the demo and the tests: `openssl ts` behind HTTP. Nobody should trust it."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIG = """
[tsa]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
crypto_device = builtin
"""


def openssl() -> bool:
    """Whether the program that makes the tokens is installed."""
    return shutil.which("openssl") is not None


class Authority:
    """Keys and certificate in a folder; `answer` makes one response at a time, because openssl's serial file is not shared.

    Its certificate, for time stamping only, is issued by `issuer` (certificate and key), or by itself.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "Demo timestamps",
        issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
        valid: dt.timedelta = dt.timedelta(days=30),
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(name, self.key, issuer=issuer, valid=valid)
        self._lock = threading.Lock()
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "tsa.key").touch(mode=0o600)
        (folder / "tsa.key").write_bytes(key)
        (folder / "tsa.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "serial").write_text("01\n")
        (folder / "tsa.conf").write_text(CONFIG.format(folder=folder))

    def answer(self, request: bytes) -> bytes:
        """The response (DER) to a request; CalledProcessError when openssl refuses to make one."""
        with self._lock:
            query = self.folder / "request.tsq"
            query.write_bytes(request)
            command = ["openssl", "ts", "-reply", "-config", str(self.folder / "tsa.conf"), "-section", "tsa"]
            return subprocess.run([*command, "-queryfile", str(query)], capture_output=True, check=True).stdout


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    ca: bool = False,
    stamping: bool = True,
    names: Sequence[x509.GeneralName] = (),
    valid: dt.timedelta = dt.timedelta(days=30),
    serial: int | None = None,
) -> x509.Certificate:
    """A certificate, self-signed without an issuer; of a CA, or for time stamping unless `stamping` is false; with `names` of a server."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if stamping and not ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


def serve(authority: Authority) -> ThreadingHTTPServer:
    """The authority over HTTP on a free port of 127.0.0.1; `server_address` says which. Runs until `shutdown()`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            response = authority.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(response)))
            self.end_headers()
            self.wfile.write(response)

        def log_message(self, *arguments: Any) -> None:
            """Nothing: what was asked is in the store."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
