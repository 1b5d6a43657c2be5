"""The timestamp (RFC 3161) that a signature of a PDF may carry. No signature covers the place where it stands, so its form is held to one.

A token of this form has one signer and that signer's certificate alone; whatever else it could hold would be covered by
nobody, and might be changed unnoticed. `reports.timestamping` writes this form.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stamp:
    """What a token states: the time, and the certificate (DER) of the authority that signed it."""

    at: dt.datetime
    certificate: bytes


def slim(token: Any) -> Any:
    """The same token (CMS ContentInfo) with the certificate of its signer alone. ValueError: that is not in it."""
    signed = token["content"]
    wanted = signed["signer_infos"][0]["sid"].chosen
    held = [each.chosen for each in signed["certificates"] or ()]
    own = [each for each in held if (each.issuer, each.serial_number) == _issued(wanted)]
    if len(own) != 1:
        raise ValueError("The token does not carry the certificate that signed it.")
    signed["certificates"] = [own[0]]
    signed["crls"] = None
    for each in signed["signer_infos"]:
        each["unsigned_attrs"] = None
    return type(token).load(token.dump(force=True))


def _issued(sid: Any) -> tuple[Any, int] | None:
    return (sid["issuer"], sid["serial_number"].native) if "issuer" in sid else None


def stamp_of(signer: Any) -> Stamp | None:
    """What the timestamp of one signature (SignerInfo) states; None without one. ValueError: another form than ours."""
    attributes = list(signer["unsigned_attrs"] or ())
    if not attributes:
        return None
    token = _only(_only(attributes, "signature_time_stamp_token")["values"])
    signed = token["content"]
    inner = _only(signed["signer_infos"])
    certificate = _only(signed["certificates"]).chosen
    used = [inner["digest_algorithm"].dump()]
    plain = (
        [each.dump() for each in signed["digest_algorithms"]] == used
        and (signed["version"].native, inner["version"].native) == ("v3", "v1")
        and not signed["crls"].native
        and not inner["unsigned_attrs"].native
        and (certificate.issuer, certificate.serial_number) == _issued(inner["sid"].chosen)
        and token.dump(force=True) == token.dump()
    )
    if not plain:
        raise ValueError("The timestamp is not in the form in which it was written.")
    return Stamp(signed["encap_content_info"]["content"].parsed["gen_time"].native, certificate.dump())


def _only(values: Any, kind: str = "") -> Any:
    (one,) = values
    if kind and one["type"].native != kind:
        raise ValueError(f"An attribute that no signature covers: {one['type'].native}.")
    return one
