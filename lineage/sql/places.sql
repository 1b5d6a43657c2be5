-- What became of quarantined items that were read again, and checks of the log that somebody asked for on a page.

-- One row for an item, ever: whoever comes second finds it taken (docs/sources.md).
create table ledger_retry (
    quarantine_id bigint primary key,
    status        text not null check (status in ('accepted', 'duplicate', 'conflict', 'skipped')),
    records       integer not null check (records >= 0),
    first_index   bigint,
    by            text not null,
    at            timestamptz not null default clock_timestamp()
);
create trigger append_only before update or delete or truncate on ledger_retry
    for each statement execute function ledger_refuse();

create table integrity_check (
    id          bigint generated always as identity primary key,
    asked_by    text not null,
    asked_at    timestamptz not null default clock_timestamp(),
    state       text not null default 'waiting' check (state in ('waiting', 'running', 'held', 'failed', 'cancelled')),
    size        bigint not null,
    done        bigint not null default 0,
    checkpoints integer not null default 0,
    faults      text[] not null default '{}',
    started_at  timestamptz,
    ended_at    timestamptz,
    ended_by    text
);
create unique index integrity_check_once on integrity_check ((true)) where state in ('waiting', 'running');
