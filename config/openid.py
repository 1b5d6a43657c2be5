"""Sign-in by OpenID Connect: the one provider that people may come from, judged before it is used (docs/access.md)."""

from __future__ import annotations

import dataclasses
import ipaddress
from urllib.parse import urlsplit

NEEDED = ("TOUCHSTONE_OIDC_ISSUER", "TOUCHSTONE_OIDC_CLIENT_ID", "TOUCHSTONE_OIDC_CLIENT_SECRET")


@dataclasses.dataclass(frozen=True)
class Provider:
    """What the environment says of it. With a fault it is as if there were none; `config.checks` tells the fault."""

    issuer: str = ""
    client_id: str = ""
    client_secret: str = dataclasses.field(default="", repr=False)
    name: str = "your organisation"

    @property
    def fault(self) -> str:
        """What is wrong with it, in words; "" where nothing is, or where no provider is set at all."""
        given = dict(zip(NEEDED, (self.issuer, self.client_id, self.client_secret), strict=True))
        lacking = [name for name, value in given.items() if not value]
        if lacking and len(lacking) < len(NEEDED):
            return f"Sign-in by OpenID Connect lacks {' and '.join(lacking)}."
        if not lacking and not is_safe(self.issuer):
            return "TOUCHSTONE_OIDC_ISSUER is no https address (http is for this machine alone), or has a query."
        return ""

    @property
    def is_on(self) -> bool:
        return bool(self.issuer) and not self.fault


def is_safe(address: object) -> bool:
    """Whether what goes there is not read on the way: https, or http to this machine."""
    if not isinstance(address, str):
        return False
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.query or parts.fragment or parts.username:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(host))


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
