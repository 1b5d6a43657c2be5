-- What the keeper remembers between its looks at the sources. Derived: the custody records in the log are the evidence.

create table coverage_progress (
    id         smallint primary key check (id = 1),
    index_to   bigint not null default 0,
    counted_to bigint not null default 0
);
insert into coverage_progress values (1);

-- Of each source: its highest number, the newest time of its own that it told, when it was last heard, and of a state
-- source the newest snapshot and the one that new ones are held against.
create table coverage_source (
    source_id   integer primary key,
    high        bigint,
    told_to     timestamptz,
    heard_at    timestamptz,
    state_index bigint,
    baseline    bigint
);

-- Numbers that did not arrive. Pieces of one gap share its bounds.
create table coverage_missing (
    source_id  integer not null,
    first      bigint not null,
    last       bigint not null check (last >= first),
    gap_first  bigint not null,
    gap_last   bigint not null,
    noticed_at timestamptz not null,
    reported   boolean not null default false,
    primary key (source_id, first)
);

-- What lasts: begun in the log, not yet ended.
create table coverage_condition (
    source_id integer not null,
    rule      text not null,
    object    text not null,
    began_at  timestamptz not null,
    detail    text not null,
    primary key (source_id, rule, object)
);

-- How far the records of one database were held against each other: by its own clock, and by ours.
create table coverage_checked (
    environment text not null,
    datasource  text not null,
    told_to     timestamptz not null,
    settled_to  timestamptz not null,
    primary key (environment, datasource)
);
