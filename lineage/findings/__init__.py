"""Findings: rules as data, kept once each, told to those who asked, triaged (docs/findings.md)."""

from lineage.findings.rules import Rule, Ruleset, load

__all__ = ["Rule", "Ruleset", "load"]
