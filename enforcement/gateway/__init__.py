"""The identity-aware gateway in front of PostgreSQL (docs/gateway.md)."""
