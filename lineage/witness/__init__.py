"""A witness that an auditor runs: it remembers the newest checkpoint of each log and cosigns only what continues it.

C2SP tlog-witness and tlog-cosignature. No Django, no database: one state file. `python -m lineage.witness --help`;
docs/witness.md is its manual.
"""
