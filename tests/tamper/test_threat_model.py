"""Every row of docs/threat-model.md is done for real, and each name in it is asserted there."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from lineage import outside
from lineage.findings import rules
from lineage.verify import checks, report

PAGE = Path(__file__).resolve().parents[2] / "docs" / "threat-model.md"
LOG, VALUES = "tamper.test_insider_log", "tamper.test_insider_values"
SOURCES, PAPERS, HIDING = "tamper.test_insider_sources", "tamper.test_insider_papers", "tamper.test_hiding_dba"
RIGHTS, OUTSIDE, HEALTH = "tamper.test_insider_rights", "tamper.test_held_outside", "lineage.test_health"

# Row -> module: its tests, here or where they stood before.
INSIDER: dict[str, dict[str, tuple[str, ...]]] = {
    "changes a stored leaf, group, hash, tile or checkpoint": {
        LOG: (
            "test_a_changed_leaf_is_found_by_fsck_by_sealing_and_by_its_inclusion_proof",
            "test_a_leaf_changed_between_the_two_readings_is_not_signed",
            "test_a_changed_group_does_not_open_its_digest_and_is_never_sealed",
            "test_a_changed_sealed_file_is_found_by_fsck_also_when_the_manifest_is_made_to_fit",
            "test_changed_hashes_tiles_and_checkpoints_are_found_by_fsck_and_the_signer",
        ),
        "lineage.test_signer_keys": ("test_by_night_fsck_runs_as_a_process_of_its_own_and_a_fault_is_an_alarm",),
    },
    "changes leaves and computes every hash and tile anew": {
        LOG: ("test_what_is_hashed_anew_without_the_key_is_refused_by_the_signer_and_cannot_be_repaired",),
    },
    "does all that and signs with the stolen key": {
        LOG: (
            "test_a_log_rewritten_with_the_stolen_key_looks_whole_from_inside",
            "test_a_log_rewritten_with_the_stolen_key_fits_no_witness_no_saved_checkpoint_no_receipt",
            "test_a_log_rewritten_with_the_stolen_key_does_not_fit_its_timestamps",
        ),
        OUTSIDE: (
            "test_a_log_rewritten_with_its_own_key_is_noticed_by_nobody_while_nobody_outside_holds_a_checkpoint",
            "test_a_log_rewritten_with_its_own_key_is_refused_by_the_witness_that_held_a_checkpoint",
            "test_a_log_rewritten_or_set_back_does_not_fit_the_drop_folder",
        ),
    },
    "deletes the newest records": {
        LOG: (
            "test_records_deleted_under_a_checkpoint_are_missed_by_the_signer_and_fsck",
            "test_records_deleted_before_their_checkpoint_were_promised_and_are_missing",
        ),
        SOURCES: ("test_an_item_taken_out_of_the_database_after_its_receipt_is_a_gap_and_a_broken_promise",),
    },
    "restores an older database and goes on": {
        LOG: ("test_an_older_database_is_not_signed_over_also_when_it_has_grown_again",),
    },
    "restores database and signer state from the same backup": {
        LOG: ("test_database_and_data_folder_from_one_backup_are_told_by_witness_auditor_and_receipts",),
        OUTSIDE: ("test_database_and_signer_set_back_together_are_refused_by_the_witness",),
        "lineage.test_signer": ("test_when_both_come_from_one_backup_only_a_checkpoint_held_outside_tells",),
    },
    "removes or swaps the signer's state": {
        LOG: ("test_a_signers_state_that_is_gone_or_another_one_signs_nothing",),
        "lineage.test_signer": ("test_the_state_of_another_log_is_refused",),
    },
    "shows two auditors different histories": {
        LOG: ("test_of_two_histories_the_witness_cosigns_one_and_the_auditors_who_compare_find_both",),
        OUTSIDE: ("test_two_auditors_who_were_shown_two_histories_find_it_with_the_next_checkpoint",),
        "lineage.test_outside": ("test_two_histories_shown_to_two_auditors_are_found",),
    },
    "drops items before they are numbered": {
        SOURCES: (
            "test_an_item_dropped_on_its_way_in_leaves_a_gap_in_the_sources_numbers",
            "test_an_item_taken_out_of_the_database_after_its_receipt_is_a_gap_and_a_broken_promise",
            "test_from_a_source_without_numbers_and_receipts_nobody_misses_it",
            "test_a_gap_that_the_keeper_was_made_to_forget_is_counted_again_from_the_leaves",
        ),
        HEALTH: ("test_a_backlog_that_does_not_move_is_late",),
    },
    "stops accepting, or stops a source": {
        SOURCES: ("test_a_source_that_is_stopped_is_silent_and_goes_on_with_a_gap",),
        HEALTH: ("test_a_canary_that_only_change_capture_brought",),
    },
    "invents records": {SOURCES: ("test_records_that_no_source_sent_have_no_counterpart_and_no_number",)},
    "resends or reorders": {
        SOURCES: (
            "test_an_item_that_comes_again_has_its_first_place_and_with_other_content_stands_beside_it",
            "test_records_reordered_before_or_after_their_checkpoint_do_not_stand_where_they_were_promised",
        ),
    },
    "backdates": {
        SOURCES: ("test_a_source_whose_clock_is_wrong_is_a_finding",),
        "lineage.test_authorities": (
            "test_a_record_that_is_dated_back_behind_a_stamped_checkpoint_is_found_by_the_verifier",
            "judged",
        ),
    },
    "swaps groups, or values between records": {
        VALUES: (
            "test_groups_values_or_salts_swapped_between_records_do_not_open_their_digests",
            "test_groups_swapped_within_a_record_do_not_open_their_digests",
        ),
    },
    "crafts a value that opens two ways": {
        VALUES: (
            "test_a_digest_opens_in_one_way_only",
            "test_a_value_that_readers_could_take_in_two_ways_is_refused_though_its_digest_fits",
        ),
    },
    "guesses withheld or erased values": {
        VALUES: ("test_a_withheld_or_erased_value_cannot_be_confirmed_by_guessing",),
        "lineage.test_commitment": ("test_fresh_salts_never_repeat",),
    },
    "erases without leave": {
        VALUES: (
            "test_what_is_erased_without_a_record_is_called_missing_and_fsck_says_so",
            "test_what_is_taken_out_of_the_journal_is_not_sealed",
            "test_the_database_refuses_one_person_in_both_roles",
        ),
    },
    "undoes an erasure from a backup": {
        VALUES: ("test_an_erasure_undone_from_a_backup_is_named_by_fsck_also_when_its_table_was_emptied",),
    },
    "makes a search hide records": {
        VALUES: (
            "test_a_record_hidden_from_the_search_is_missed_by_the_counts_by_fsck_and_by_a_range",
            "test_what_is_changed_in_merged_files_is_found_as_in_those_that_were_merged",
            "test_what_is_changed_in_any_other_file_of_a_merged_segment_is_found_and_goes_into_no_further_merge",
            "test_derived_files_that_claim_another_version_are_not_left_out_of_the_comparison",
            "test_facts_that_name_another_login_are_found_and_those_of_another_version_name_nobody",
            "test_a_source_said_to_have_been_heard_when_it_was_not_is_found",
            "test_records_left_out_of_a_range_and_its_counts_are_counted_again_by_the_verifier",
        ),
    },
    "alters a pack, a report or the verifier": {
        PAPERS: (
            "test_a_pack_with_another_leaf_value_or_checkpoint_fails_by_the_name_of_the_check",
            "test_a_report_altered_after_signing_or_with_another_pack_in_it_fails_the_check_of_the_pdf",
            "test_a_verifier_altered_on_the_server_does_not_fit_the_sums_of_day_one",
        ),
        "tamper.test_pack_tamper": (
            "test_no_bit_of_the_pack_can_be_flipped",
            "test_no_byte_of_the_pack_can_be_another",
        ),
        "tamper.test_report_tamper": (
            "test_a_changed_lacking_or_added_attachment_is_refused_by_its_name_though_it_is_signed_again",
            "test_no_byte_of_the_file_can_be_another",
            "test_an_insider_who_repairs_list_and_cover_is_given_away_by_the_tables_the_tests_or_the_log",
        ),
    },
    "rotates the key in silence": {
        PAPERS: (
            "test_a_key_exchanged_in_silence_is_unknown_to_the_policy_of_day_one",
            "test_a_rotation_by_the_command_is_a_record_and_the_policy_of_day_one_does_not_know_its_key",
        ),
    },
    "floods the log": {SOURCES: ("test_a_flood_is_cut_into_batches_and_counted_by_source",)},
    "takes down an alarm": {RIGHTS: ("test_an_alarm_taken_down_stands_in_the_log_and_is_raised_anew",)},
    "gives himself an account by hand, or reads tables and files past it": {
        RIGHTS: ("test_what_an_account_made_by_hand_reads_is_recorded_and_what_is_read_past_it_is_not",),
    },
}
HIDER: dict[str, dict[str, tuple[str, ...]]] = {
    "takes a table out of the publication, or lessens what it publishes": {
        HIDING: ("test_a_publication_that_sends_less",),
        HEALTH: ("test_rows_that_the_log_tells_of_and_change_capture_does_not",),
    },
    "does so and puts it back between two snapshots": {
        HIDING: ("test_a_publication_and_a_replica_identity_changed_and_changed_back",),
    },
    "drops, recreates or advances the replication slot": {
        HIDING: ("test_a_slot_dropped_and_a_slot_advanced",),
        HEALTH: ("test_rows_that_the_log_tells_of_and_change_capture_does_not",),
    },
    "weakens the replica identity, for a while": {
        HIDING: ("test_a_publication_and_a_replica_identity_changed_and_changed_back",),
    },
    "weakens pgAudit or logging (server, database, role or session), for a while": {
        HIDING: ("test_settings_changed_and_changed_back", "test_a_session_that_switches_logging_off_and_writes"),
    },
    "deletes, cuts or replaces the server's log before it is read": {
        HIDING: ("test_the_log_cut_removed_and_moved_away", "test_the_server_started_again_without_its_log"),
    },
    "changes rows with `session_replication_role = replica`": {HIDING: ("test_triggers_switched_off_in_a_session",)},
    "writes false AUDIT lines through `raise log`": {HIDING: ("test_forged_audit_text",)},
    "claims in a context message to be somebody else": {HIDING: ("test_a_false_claim_in_a_context_message",)},
    "stops a collector or cuts its network": {HIDING: ("test_a_collector_that_is_stopped",)},
    "destroys the spool": {HIDING: ("test_the_spool_destroyed",)},
    "sets the clock": {HIDING: ("test_a_clock_an_hour_off",)},
    "works with logging off in a session": {HIDING: ("test_a_session_that_switches_logging_off_and_writes",)},
    "moves a table out of the write-ahead log (`set unlogged`), works, moves it back": {
        HIDING: ("test_a_table_moved_out_of_the_write_ahead_log",),
    },
    # Nothing of it reaches the database's own log: the page says so, and there is nothing to assert.
    "reads the data files, a backup or a standby beside the server": {},
}
HONEST = "test_honest_work_is_no_finding"
ALARMS = {
    "signer-state-missing", "log-set-back", "log-rewritten", "record-missing", "checkpoint-unknown", "hashes-damaged",
    "ledger-broken", "fsck-failed", "witness-refused", *outside.LATE,
}  # fmt: skip
FINDINGS = {rule.id for rule in rules.load().rules}
CHECKS = {name for _, name, _ in (*checks.CHECKS, *report.CHECKS)} | {"archive", "members", "manifest", "pdf"}


def tables() -> list[dict[str, str]]:
    """Row -> what catches it, for each table of the page."""
    found: list[dict[str, str]] = []
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| the (insider|DBA) … \|", line):
            found.append({})
        elif line.startswith("| ") and found:
            deed, caught, _ = line.strip("| ").split(" | ")
            found[-1][deed] = caught
    return found


def source(tests: dict[str, tuple[str, ...]]) -> str:
    return "\n".join(
        inspect.getsource(getattr(importlib.import_module(f"tests.{module}"), name))
        for module, names in tests.items()
        for name in names
    )


def test_each_row_has_its_tests_and_no_test_is_of_a_row_that_is_gone() -> None:
    insider, hider = tables()
    assert list(insider) == list(INSIDER)
    assert list(hider) == list(HIDER)
    assert all(INSIDER.values())


@pytest.mark.parametrize("module", [LOG, VALUES, SOURCES, PAPERS, RIGHTS, HIDING])
def test_each_test_of_the_tamper_suite_is_of_a_row(module: str) -> None:
    rows = [*INSIDER.values(), *HIDER.values()]
    mapped = {name for tests in rows for name in tests.get(module, ())}
    there = {name for name in vars(importlib.import_module(f"tests.{module}")) if name.startswith("test_")}
    assert there - {HONEST} == mapped


@pytest.mark.parametrize(("table", "deed"), [(n, deed) for n, rows in enumerate((INSIDER, HIDER)) for deed in rows])
def test_each_name_in_a_row_is_asserted_by_one_of_its_tests(table: int, deed: str) -> None:
    caught, told = tables()[table][deed], source((INSIDER, HIDER)[table][deed])
    names = {
        name
        for name in re.findall(r"`([a-z_-]+)`", caught)
        if name in ALARMS | FINDINGS | {"key_rotation", "evidence_read"}
    }
    assert not {name for name in re.findall(r"`([a-z]+-[a-z-]+)`", caught)} - ALARMS - FINDINGS, (
        "a name that does not exist"
    )
    if "check *" in caught or "checks *" in caught:
        named = {word for word in re.findall(r"\*([a-z]+)\*", caught) if word in CHECKS}
        assert named
        names |= named
    assert {name for name in names if f'"{name}"' not in told} == set()
    if "`fsck`" in caught:
        assert "faults()" in told or '"fsck"' in told
