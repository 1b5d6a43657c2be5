"""The gateway in front of PostgreSQL: who signs in is known, each statement is judged, masked, held or refused, and recorded.

    python -m enforcement.gateway SETTINGS.toml
    python -m enforcement.gateway SETTINGS.toml --check

It prints one line when it is ready, `listening on HOST:PORT`, on stdout; what an operator should know goes to stderr.
SIGTERM or SIGINT: new clients are refused (57P03), open transactions may end for `drain_seconds`, then everything ends; a second
signal ends at once. SIGHUP changes nothing. Exit status 0: ended in order; 1: the settings are wrong or --check found something;
2: it cannot start.

--check reads the settings, dials each database and signs in with each of its accounts, and prints what is wrong with the SQL or
command that mends it.

Clients connect with their usual tools. The user is who they are or an account open to them; the password is a token:

    PGPASSWORD=TOKEN psql 'host=GATEWAY port=6432 dbname=shop user=dana@shop.example sslmode=verify-full sslrootcert=system'
    … options='-c touchstone.purpose=refund -c touchstone.ticket=OPS-42'

SETTINGS.toml; paths are taken from its folder, files with secrets must be readable by their owner alone:

    [gateway]
    name = "gw-1"                    # how the store knows it
    folder = "spool"                 # its own disk: statements in flight, events for the store, last rules and keys
    listen = "0.0.0.0:6432"
    address = "db.shop.example:6432" # what clients connect to, for the page Connect
    tls_certificate = "gateway.crt"
    tls_key = "gateway.key"
    cleartext_on_loopback = false    # true: clients on 127.0.0.1 or ::1 may come without TLS
    store = "https://touchstone.shop.example"
    token_file = "gateway.token"     # made by: bin/manage source add gw-1 --format gateway
    store_ca_file = ""               # authority of the store's certificate, when it is not a public one
    max_sessions = 500
    max_sessions_per_identity = 50
    login_seconds = 30
    connect_seconds = 10             # for the database to answer and let in
    drain_seconds = 30
    message_mib = 64                 # the longest message that is taken of a client, 1 to 64
    spool_limit_mib = 1024           # when full, nothing is forwarded (when_unrecorded)

    [[database]]
    name = "shop"                    # what clients call it
    datasource = "shop"
    environment = "production"
    host = "10.0.0.5"
    port = 5432
    dbname = "shop"                  # on its server; left out: as name
    sslmode = "verify-full"          # verify-ca, require and disable need insecure_because = "…"
    sslrootcert = "database-ca.crt"
    when_unrecorded = "refuse"       # or "run": when the spool cannot be written
    required = true                  # changes that go around the gateway are a finding
    other_accounts = ["pgwal"]       # accounts that rightly go around it: collectors, canary
    identity_message = true          # false: writes carry no message for change capture
    idle_seconds = 3600              # a silent client is ended; 0: never
    idle_in_transaction_seconds = 300
    plan_seconds = 2                 # how long the plan of a statement to approve may take
    catalog_account = "app"          # reads the catalog; left out: the first account
    harmless_functions = ["public.slugify"]   # functions of your own that only compute

    [[database.account]]             # the first that fits who signs in; an empty list lets everyone
    account = "app"
    password_file = "app.password"
    people = ["*@shop.example"]      # ids or e-mail addresses, * as wildcard
    types = ["human", "service"]     # agents only where "agent" stands here
    roles = ["support"]              # roles in the token

    [[issuer]]                       # besides the store itself
    name = "corporate"
    issuer = "https://login.shop.example"
    audience = "touchstone-gateway"
    keys_url = "https://login.shop.example/jwks"   # or keys_file = "keys.json"
    algorithms = ["RS256", "ES256", "EdDSA"]
    claims = { roles = "realm_access.roles" }      # where id, email, name and roles stand
    agent_clients = ["report-bot"]   # clients (azp) that are agents
    service_claims = { gty = "client-credentials" }
    single_use = false               # true: each token lets in once
    longest_seconds = 43200
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from pathlib import Path

import uvloop

from enforcement import shipper
from enforcement import spool as spools
from enforcement.gateway import checking, server
from enforcement.gateway.settings import Settings, SettingsError, load

COLLECT_AFTER = 10_000
"""Objects made and not given up, after which Python's collector looks for cycles."""


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m enforcement.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=Path, metavar="SETTINGS.toml")
    parser.add_argument("--check", action="store_true", help="say what is wrong with settings and databases, and end")
    options = parser.parse_args(arguments)
    try:
        settings = load(options.settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    if options.check:
        found = uvloop.run(checking.check(settings))
        print("\n".join(found) or "Nothing is wrong.")
        return 1 if found else 0
    try:
        return uvloop.run(serve(settings))
    except (OSError, spools.SpoolError, ValueError) as error:
        print(f"The gateway cannot start: {error}", file=sys.stderr)
        return 2


async def serve(settings: Settings) -> int:
    """One run of the gateway."""
    folder = Path(settings.gateway.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    queue = spools.Spool(folder / "spool", limit_bytes=settings.gateway.spool_limit_mib << 20)
    sender = server.open_sender(settings, queue)
    gateway = server.Gateway(settings, queue, sender)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    loop.add_signal_handler(
        signal.SIGHUP, shipper.say, "gateway: SIGHUP changes nothing; stop and start it to take new settings."
    )
    try:
        host, port = await gateway.start()
        if sender is not None:
            sender.start()
        # What is there now stays: the collector need not walk through it again, and what a statement makes goes by itself.
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 20)
        print(f"listening on {host}:{port}", flush=True)
        await gateway.run()
    finally:
        await asyncio.to_thread(gateway.liaison.stop)
        await asyncio.to_thread(gateway.recorder.close)
        if sender is not None:
            await asyncio.to_thread(sender.stop)
        queue.close()
    shipper.say("gateway: ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
