"""Checks an evidence pack without us: no Django, no network, no database (docs/verify.md lists the checks).

    python -m lineage.verify FILE [--policy FILE] [--receipts FILE] [--leaves FILE] [--leaf FILE] [--json]

Trust comes only from the policy file that the auditor gives, never from the pack.
"""

from __future__ import annotations

from lineage.verify.checks import verify
from lineage.verify.verdicts import Check, Verdict

__all__ = ["Check", "Verdict", "verify"]
