"""Catalog snapshots."""

import msgspec

from tests.lineage.sources.golden import one

SNAPSHOT = {
    "mode": "snapshot",
    "at": "2026-11-21T02:49:32.5+01:00",
    "system_identifier": "7301",
    "database": "shop",
    "server_version": "15.18",
    "roles": [{"name": "dana", "login": True, "superuser": False, "member_of": ["support"]}],
    "grants": [
        {
            "grantee": "support",
            "privilege": "SELECT",
            "schema": "public",
            "relation": "customers",
            "grantor": "owner",
            "grantable": False,
        }
    ],
    "settings": [{"name": "pgaudit.log", "value": "all"}],
    "publications": ["touchstone"],
    "slots": [{"name": "t", "plugin": "pgoutput", "active": True, "wal_status": "reserved", "confirmed_lsn": "0/1"}],
    "keys": [
        {
            "schema": "public",
            "relation": "customers",
            "owner": "owner",
            "columns": ["id"],
            "replica_identity": "default",
            "published": True,
        }
    ],
}


def of(**changes):
    return one("pgstate", msgspec.json.encode({**SNAPSHOT, **changes}))


def test_a_snapshot_says_who_holds_what_and_how_the_tables_are_identified():
    event = of()
    assert (event.kind, event.class_, event.database, event.occurred_at) == (
        "state",
        "state",
        "shop",
        "2026-11-21T01:49:32.500000Z",
    )
    assert (event.state.mode, event.state.roles[0].member_of, event.state.grants[0].privilege) == (
        "snapshot",
        ("support",),
        "SELECT",
    )
    assert (event.state.keys[0].columns, event.state.slots[0].wal_status) == (("id",), "reserved")
    settings = {setting.name: setting.value for setting in event.state.settings}
    assert settings == {"pgaudit.log": "all", "server_version": "15.18", "system_identifier": "7301"}
    assert event.source_event_id == "7301/shop/2026-11-21T01:49:32.500000Z/snapshot"


def test_a_difference_says_that_it_is_one():
    assert of(mode="difference", roles=[]).state.mode == "difference"


def test_what_is_no_snapshot_is_quarantined():
    assert of(mode="everything").code == "pgstate"
    assert of(at="yesterday").code == "pgstate"
    assert of(roles=[{"name": 5}]).code == "pgstate"
    assert one("pgstate", b'{"mode":"snapshot","at":"2026-11-21T02:49:32Z","mode":"difference"}').code == "doubled-key"
