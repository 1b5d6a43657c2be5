"""Guardrails: rules as data, and the one question of what they say to a statement (docs/gateway.md).

Pure: text in, rules out; a statement's facts in, a decision out.
"""

from __future__ import annotations

from importlib import resources

from lineage.guardrails.asking import Asked, Decision, Touch
from lineage.guardrails.deciding import decide
from lineage.guardrails.rules import Guardrails, Rule, load

__all__ = ["DEFAULT", "Asked", "Decision", "Guardrails", "Rule", "Touch", "decide", "load"]

DEFAULT = load((resources.files(__name__) / "default.toml").read_text("utf-8"))
"""Version 0, which holds while there is no other."""
