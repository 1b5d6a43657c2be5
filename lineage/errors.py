"""Every error that Touchstone raises on purpose.

Each has a stable kebab-case `code`, an HTTP `status`, and a sentence that tells the reader what to do.
The same three appear in JSON answers, on pages and on the command line (docs/api.md lists the codes).
"""

from __future__ import annotations


class TouchstoneError(Exception):
    """Base of all deliberate errors. `fields` names the inputs at fault; it never holds row or statement values."""

    code = "internal-error"
    status = 500
    default = "Something failed on our side. Try again; if it happens again, tell the operator the error id."

    def __init__(self, message: str | None = None, **fields: str) -> None:
        self.message = message or self.default
        self.fields = fields
        super().__init__(self.message)


class ProofInvalid(TouchstoneError):
    """A Merkle proof does not connect what it claims to connect (RFC 9162 section 2.1)."""

    code = "proof-invalid"
    status = 422
    default = "The proof does not lead to the root. Ask for a new pack; if it fails again, report tampering."


class NoteInvalid(TouchstoneError):
    """A signed note or checkpoint is malformed or not signed by a trusted key (C2SP signed-note, tlog-checkpoint)."""

    code = "note-invalid"
    status = 422
    default = "The signed note is malformed or no trusted key signed it. Check the policy file and the note's origin."


class TimestampInvalid(TouchstoneError):
    """A timestamp token is malformed, over another message, or not made by an authority that is trusted (RFC 3161)."""

    code = "timestamp-invalid"
    status = 422
    default = "The timestamp is malformed or no trusted authority made it. Check the tsa lines of the policy file."


class OutsideProfile(TouchstoneError):
    """A value cannot be written in the canonical JSON profile of leaves and groups (RFC 8785, narrowed)."""

    code = "outside-profile"
    status = 422
    default = "Use ASCII keys, strings, booleans and integers within 2^53; no floats, no nulls, no duplicate keys."


class EventInvalid(TouchstoneError):
    """One item cannot become an event. The item is quarantined; the rest of its batch goes on."""

    code = "event-invalid"
    status = 422
    default = "The item does not follow the event model. Compare it with the schema at /api/schema."


class TokenInvalid(TouchstoneError):
    code = "token-invalid"
    status = 401
    default = (
        "The token is unknown or revoked. Make a new one with `bin/manage source add` or `bin/manage user add --token`."
    )


class SeatEnded(TokenInvalid):
    """A seat or a token whose time is over. `email` is whose it is; who holds the token may know."""

    code = "seat-ended"
    default = "Your seat has ended. Ask an administrator if you still need it; what you did stays in the log."

    def __init__(self, email: str, message: str | None = None) -> None:
        super().__init__(message)
        self.email = email


class SignInRefused(TokenInvalid):
    """Who came from the OpenID provider is not let in. `why` goes into the log, the message to the person; `email`: whose seat."""

    code = "sign-in-refused"
    default = "Your provider's word does not open a seat here. Begin again, or sign in with your password."

    def __init__(self, why: str, message: str, email: str = "") -> None:
        super().__init__(f"{message} The refusal is recorded.")
        self.why, self.email = why, email


class ProviderUnavailable(TouchstoneError):
    """The OpenID provider does not answer, or not as one."""

    code = "provider-unavailable"
    status = 503
    default = "Your provider does not answer now. Sign in with your password, or try again in a few minutes."


class SignInPutOff(TouchstoneError):
    """Too many tries to sign in with one e-mail address or from one network address."""

    code = "sign-in-put-off"
    status = 429
    default = "There were too many tries to sign in. Wait as long as Retry-After says; the refusal is recorded."

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"There were too many tries to sign in with this address or from this place. Try again in {-(-seconds // 60)} minutes, "
            "or ask an administrator for a new password. Nothing was opened, and the refusal is recorded."
        )
        self.seconds = seconds


class AccessInvalid(TouchstoneError):
    """A seat, a token or a source cannot be as it is asked for; the message names what is wrong."""

    code = "access-invalid"
    status = 422
    default = "This cannot be set as it stands. The message names what is wrong; nothing was changed."


class FormatUnknown(TouchstoneError):
    code = "format-unknown"
    status = 404
    default = "This format is not built. `fields.formats` lists those that are."


class BodyTooLarge(TouchstoneError):
    code = "body-too-large"
    status = 413
    default = "Send at most 10,000 items and 10 MiB (after decompression) in one batch."


class EncodingUnknown(TouchstoneError):
    code = "encoding-unknown"
    status = 415
    default = "Send Content-Encoding gzip, zstd or none."


class BodyUnreadable(TouchstoneError):
    code = "body-unreadable"
    status = 400
    default = "The body cannot be read at all in this format. Nothing was stored."


class BatchRefused(TouchstoneError):
    """With `?strict=1`, one bad item refuses the batch."""

    code = "batch-refused"
    status = 422
    default = "The batch was sent with strict=1 and holds items that cannot be accepted. Nothing was stored."


class StoreUnavailable(TouchstoneError):
    code = "store-unavailable"
    status = 503
    default = "The store cannot accept or answer now. Nothing was lost: send the same batch again after Retry-After."


class SourceChanged(StoreUnavailable):
    """The source is not what a batch was admitted under: its token was revoked, or its row changed. Nothing was stored."""


class BacklogFull(TouchstoneError):
    """More records wait to be sealed than the store may leave unsealed: those who send wait, so that it does not fall over."""

    code = "backlog-full"
    status = 429
    default = (
        "The store has more to do than it keeps up with. Nothing of this batch was stored and nothing is lost: "
        "send it again after Retry-After."
    )


class EvidenceReadUnrecorded(TouchstoneError):
    """Reads of evidence are recorded before they are answered; without the record there is no answer."""

    code = "evidence-read-unrecorded"
    status = 503
    default = "This read could not be recorded in the log, so it is not answered. Try again in a moment."


class AccessDenied(TouchstoneError):
    code = "access-denied"
    status = 403
    default = "Your role or scope does not include this. Ask an administrator; the refusal is recorded."


class NotFound(TouchstoneError):
    code = "not-found"
    status = 404
    default = "Nothing with this name is in your scope."


class MethodUnknown(TouchstoneError):
    """The address is there, and does not take this HTTP method; the header Allow names those that it takes."""

    code = "method-unknown"
    status = 405
    default = "This address does not take this method; the header Allow names those that it takes. Nothing was changed."


class GuardrailsInvalid(TouchstoneError):
    """A text of guardrails cannot be used; the message names the rule and the field."""

    code = "guardrails-invalid"
    status = 422
    default = "The guardrails cannot be used as they stand. The message names the rule and the field."


class TagInvalid(TouchstoneError):
    """Classes of a column as somebody wants them cannot be used."""

    code = "tag-invalid"
    status = 422
    default = "The classes cannot be used as they stand. Nothing was changed."


class MappingInvalid(TouchstoneError):
    """Whose a login is cannot be said as somebody wants it."""

    code = "mapping-invalid"
    status = 422
    default = "Whose this login is cannot be said so. Nothing was changed."


class FindingInvalid(TouchstoneError):
    """What somebody says about a finding, or how the rules of findings shall be set, cannot be used."""

    code = "finding-invalid"
    status = 422
    default = "This cannot be kept as it stands. Nothing was changed."


class ReceiverInvalid(TouchstoneError):
    """A receiver of findings as somebody wants it cannot be used."""

    code = "receiver-invalid"
    status = 422
    default = "The receiver cannot be used as it stands. Nothing was changed."


class QueryInvalid(TouchstoneError):
    """The search text cannot be understood; the message names the nearest field or the place of the fault."""

    code = "query-invalid"
    status = 400
    default = "The search text cannot be understood."


class QueryTooLong(TouchstoneError):
    code = "query-too-long"
    status = 503
    default = "The question took longer than allowed. Narrow the time range or name a database."


class PackInvalid(TouchstoneError):
    """An evidence pack fails a numbered check of `lineage.verify`."""

    code = "pack-invalid"
    status = 422
    default = "The pack fails a check. The list of checks says which."


class PackUnreadable(TouchstoneError):
    code = "pack-unreadable"
    status = 400
    default = "The file is not an evidence pack that this verifier can read."


class SignerRefused(TouchstoneError):
    """The signer will not sign: what it was shown is not an append to what it signed last."""

    code = "signer-refused"
    status = 503
    default = (
        "The checkpoint signer refuses this tree. Do not repair by hand: compare with the last outside checkpoint."
    )


class LedgerBroken(TouchstoneError):
    """`fsck` found that stored leaves, tree and segments do not agree."""

    code = "ledger-broken"
    status = 500
    default = (
        "The stored log does not agree with its checkpoints. Keep everything as it is and call the security owner."
    )


class NotAvailableYet(TouchstoneError):
    code = "not-available-yet"
    status = 501
    default = "This is not available yet in this version."


class SettingsInvalid(TouchstoneError):
    code = "settings-invalid"
    default = "A setting is missing or wrong; the message names it."


class Held(TouchstoneError):
    """Records under a hold are neither erased nor expire."""

    code = "held"
    status = 409
    default = "A hold covers some of these records. Two people release it, or the erasure leaves them out."


class NotDecidable(TouchstoneError):
    """A held statement was decided, used or withdrawn meanwhile, or is not the one that was shown."""

    code = "not-decidable"
    status = 409
    default = "This request does not wait for this decision any more. Reload the page; nothing was changed."


class AlreadyDone(TouchstoneError):
    """What was asked for happens once, and somebody was there before."""

    code = "already-done"
    status = 409
    default = "This was done already, by you or by somebody else. Reload the page; nothing was done a second time."


class UnderErasure(TouchstoneError):
    """What an approved erasure takes is not brought into the log any more."""

    code = "under-erasure"
    status = 409
    default = (
        "An approved erasure takes this item, so it is not read again. Nothing was stored; the refusal is recorded."
    )


class ReportBlocked(TouchstoneError):
    code = "report-blocked"
    status = 409
    default = "The report cannot be final: the evidence does not reconcile. The completeness page says what differs."


class SampleInvalid(TouchstoneError):
    """A sample as somebody wants it cannot be drawn."""

    code = "sample-invalid"
    status = 422
    default = "The sample cannot be drawn so. Nothing was changed."


class SignOffRefused(TouchstoneError):
    """Somebody may not sign this step of a report, or not now; or what is asked for cannot be a sign-off."""

    code = "sign-off-refused"
    status = 409
    default = "This cannot be signed by you now. The report's page says whose turn it is. Nothing was signed."


class ExceptionInvalid(TouchstoneError):
    """What somebody says of deviations, or concludes of them, cannot be kept."""

    code = "exception-invalid"
    status = 422
    default = "This cannot be kept as it stands. Nothing was changed."


class ReportFailed(TouchstoneError):
    """A report could not be made. What was collected for it is kept, so that it can be made again from the same inputs."""

    code = "report-failed"
    status = 500
    default = "The report could not be made. Try a shorter period."


class KindUnavailable(TouchstoneError):
    """A kind of report of which the connected sources can supply no population."""

    code = "kind-unavailable"
    status = 422
    default = "This kind of report is not available from the connected sources. `bin/manage report kinds` says why."


class CheckStopped(TouchstoneError):
    """A file that somebody brought could not be checked within the limits of the server; nothing is said of it by that."""

    code = "check-stopped"
    status = 422
    default = (
        "The check took too long or too much memory here, and says nothing of the file. Check it on your own machine."
    )
