"""What is heard of sources, and what is not: heartbeats as they come, and the keeper's look at all of it each minute."""

from lineage.health.beats import beat
from lineage.health.counts import commit_counts, disagreements, tell_disagreements
from lineage.health.rounds import look
from lineage.health.watch import Watch

__all__ = ["Watch", "beat", "commit_counts", "disagreements", "look", "tell_disagreements"]
