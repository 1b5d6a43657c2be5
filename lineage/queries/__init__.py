"""The only reader: every function takes a `Viewer` first (docs/queries.md has the shapes)."""

from lineage.queries.accesses import accesses, population
from lineage.queries.arrivals import firsts
from lineage.queries.ask import SECOND, Answer, Coverage, Span, Total, Window, between
from lineage.queries.chaining import chain
from lineage.queries.conduct import conduct
from lineage.queries.counts import (
    COMPLETED,
    FACET_MOST,
    LISTS,
    completions,
    exact_total,
    kinds_counted,
    search_counts,
    tallied,
)
from lineage.queries.course import session
from lineage.queries.exporting import Whole
from lineage.queries.facts import control_facts
from lineage.queries.found import Narrowed, Pressing, finding, findings, found, pressing
from lineage.queries.glance import overview
from lineage.queries.holding import holders
from lineage.queries.hours import source_hours
from lineage.queries.inventory import inventory, owners
from lineage.queries.lacking import checkpoint, checkpoints, gaps, quarantined, quarantined_item
from lineage.queries.lives import row
from lineage.queries.mapped import login_history, logins
from lineage.queries.own import own_reads
from lineage.queries.people import FACETED, identities, identity, session_facets, sessions, sessions_faceted
from lineage.queries.places import column, columns, datasources, relation, relations
from lineage.queries.records import event, events, touches
from lineage.queries.registers import classified, registered, rights_held
from lineage.queries.rehearsal import TRIAL_MOST, Shift, Trial, dry_run
from lineage.queries.releases import released
from lineage.queries.review import approvals, decided
from lineage.queries.signed import checkpoint_chain
from lineage.queries.subjects import Subject, run, touched
from lineage.queries.supply import supply
from lineage.queries.tags import tag_history, tags, tags_of
from lineage.queries.ticketed import tickets
from lineage.queries.undoing import undoing
from lineage.queries.whole import alarms, completeness, integrity

__all__ = [
    "COMPLETED", "FACETED", "FACET_MOST", "LISTS", "SECOND", "TRIAL_MOST", "Answer", "Coverage", "Narrowed", "Pressing", "Shift", "Span",
    "Subject", "Total", "Trial", "Whole", "Window", "accesses", "alarms", "approvals", "between", "chain", "checkpoint",
    "checkpoint_chain", "checkpoints", "classified", "column", "columns", "completeness", "completions", "conduct",
    "control_facts", "datasources", "decided", "dry_run", "event", "events", "exact_total", "finding", "findings", "firsts",
    "found", "gaps", "holders", "identities", "identity", "integrity", "inventory", "kinds_counted", "login_history",
    "logins", "overview", "own_reads", "owners", "population", "pressing", "quarantined", "quarantined_item", "registered",
    "relation", "relations", "released", "rights_held", "row", "run", "search_counts", "session", "session_facets",
    "sessions", "sessions_faceted", "source_hours", "supply", "tag_history", "tags", "tags_of", "tallied", "tickets", "touched",
    "touches", "undoing",
]  # fmt: skip
