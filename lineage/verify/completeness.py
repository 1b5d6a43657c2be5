"""The checks of a whole range: whether the filter over headers selects the same records, and whether counts agree."""

from __future__ import annotations

from lineage.errors import PackInvalid
from lineage.verify.evidence import Evidence
from lineage.verify.survey import matches
from lineage.verify.verdicts import Finding


def completeness(evidence: Evidence) -> Finding:
    """Whether the filter over headers, applied again, selects the same records."""
    content = evidence.content
    if not all(matches(evidence.leaves[index], content.headers) for index in content.selected):
        raise PackInvalid("A selected record does not match the filter over leaf headers.")
    first, last = evidence.bounds
    within = f"records {first} to {last}"
    if not all(first <= index <= last for index in content.selected):
        raise PackInvalid(f"A selected record lies outside {within}.")
    if content.detached is not None and evidence.survey is None:
        return "missing", (
            f"The leaves of {within} lie in the file {content.detached.file} (SHA-256 {content.detached.sha256}). Whether "
            "records are left out can be said only with it: --leaves."
        )
    if evidence.survey is None:
        return "note", "Single records: nothing is shown about the records between them."
    rest = evidence.survey.matching - len(content.selected)
    if content.hidden:
        return "note", (
            f"The query asked for fields in groups, which a verifier cannot repeat: of {within}, {rest} more match "
            "its part over headers and were left out by the rest of the query."
        )
    if rest:
        raise PackInvalid("The filter over leaf headers selects other records than the pack does.")
    return "pass", (
        f"The filter over leaf headers, applied again to {within}, selects exactly these records. Of the log before and "
        "after, nothing is said."
    )


def counts(evidence: Evidence) -> Finding:
    """Whether the leaves of the range are as many, by source and class, as the log committed to."""
    survey, number = evidence.survey, len(evidence.commitments)
    if survey is None or not survey.inside:
        return "note", f"{number} count commitments; the leaves that they speak of are not all here."
    for each in survey.inside:
        if survey.counted[each.index] != each.counts:
            raise PackInvalid(
                f"Record {each.index} committed to other counts of the records {each.first} to {each.last}."
            )
    held = sum(each.last - each.first + 1 for each in survey.inside)
    return "pass", (
        f"{held} records, counted again by source and class, are as many as {len(survey.inside)} records of the log "
        f"committed to. {number - len(survey.inside)} more speak of leaves that are not all here."
    )
