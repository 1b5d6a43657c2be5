"""What a database's catalogs say at one moment: roles, rights, settings, capture (`state` events)."""

from __future__ import annotations

from typing import Literal

from lineage.events.terms import Name, Part, Text


class Grant(Part, frozen=True):
    """One right held: privilege on object, by grantee, from grantor; or one membership when `role` is set."""

    grantee: Name
    privilege: Name | None = None
    schema: Name | None = None
    relation: Name | None = None
    column: Name | None = None
    role: Name | None = None
    grantor: Name | None = None
    grantable: bool | None = None


class RoleState(Part, frozen=True):
    name: Name
    login: bool | None = None
    superuser: bool | None = None
    createrole: bool | None = None
    createdb: bool | None = None
    replication: bool | None = None
    bypassrls: bool | None = None
    member_of: tuple[Name, ...] = ()


class Setting(Part, frozen=True):
    name: Name
    value: str


class KeyState(Part, frozen=True):
    """Primary key and replica identity of one relation, and who owns it.

    `kind` table, partitioned, view, materialized or foreign; `persistence` permanent, unlogged or temporary.
    """

    schema: Name
    relation: Name
    owner: Name | None = None
    columns: tuple[Name, ...] = ()
    replica_identity: Name | None = None
    published: bool | None = None
    kind: Name | None = None
    persistence: Name | None = None


class SlotState(Part, frozen=True):
    name: Name
    plugin: Name | None = None
    active: bool | None = None
    wal_status: Name | None = None
    confirmed_lsn: Name | None = None
    restart_lsn: Name | None = None


class PublishedTable(Part, frozen=True):
    """One table of a publication; without `columns` all of them, without `row_filter` all rows."""

    schema: Name
    relation: Name
    columns: tuple[Name, ...] = ()
    row_filter: Text | None = None


class PublicationState(Part, frozen=True):
    """What one publication sends; `tables` are listed where it is not for all tables."""

    name: Name
    all_tables: bool | None = None
    operations: tuple[Name, ...] = ()
    via_root: bool | None = None
    tables: tuple[PublishedTable, ...] = ()


class Mark(Part, frozen=True):
    """Which version of one catalog row (or of the configuration) is in force: what was changed and changed back shows.

    `version` names who wrote it (for a catalog row its transaction id), `content` is a hash over what it says.
    """

    object: Name
    version: Name
    content: Name


class State(Part, frozen=True):
    """What the database's catalogs say at one moment; `mode` snapshot is complete, difference is not."""

    mode: Literal["snapshot", "difference"] = "snapshot"
    roles: tuple[RoleState, ...] = ()
    grants: tuple[Grant, ...] = ()
    settings: tuple[Setting, ...] = ()
    publications: tuple[Name, ...] = ()
    slots: tuple[SlotState, ...] = ()
    keys: tuple[KeyState, ...] = ()
    published: tuple[PublicationState, ...] = ()
    marks: tuple[Mark, ...] = ()
