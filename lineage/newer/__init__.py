"""What is newer than extracts, kept by a process and carried on record by record, without DuckDB (docs/decisions/028).

Each rule stands here a second time, in Python, beside its SQL: what records say (`lineage.facts`), what is behind a transaction
(`lineage.joins`), what is told of a record (`lineage.resolving`), what it is found by (`lineage.extracts.terms`). Tests compare both.
"""
