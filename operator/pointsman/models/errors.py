"""Why a pull failed: the closed set of reasons, and the exit code of each.

Decided here: which failures come back and which do not, by which exit code the Job's pod failure policy tells them
apart. A *permanent* failure needs a change by somebody (of the spec, a Secret, the volume's permissions): trying again
alone never helps. The others may heal by themselves, so they are tried again.

Exit codes: 0 pulled · 2 wrong command line (click) · 20-29 permanent · 30-39 come back · 130, 143 ended by a signal,
resumable · anything else is a bug. Codes are part of the contract with Jobs that already run: never renumber.
"""

from __future__ import annotations

from enum import StrEnum


class PullReason(StrEnum):
    """The `reason` of a failed pull, in reports, outcomes and conditions."""

    BAD_REFERENCE = "BadReference"
    """The source or the digest cannot be read."""
    BAD_CONFIGURATION = "BadConfiguration"
    """A credential or CA file cannot be used, or the report has no token."""
    UNKNOWN_MODEL = "UnknownModel"
    """The registry does not know the model or the tag."""
    NOT_A_MODEL = "NotAModel"
    """The registry has it, but it is no model in Ollama's format."""
    ACCESS_DENIED = "AccessDenied"
    """The registry wants credentials, others than it got."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The registry has another manifest than the pinned one."""
    STORE_UNWRITABLE = "StoreUnwritable"
    """The volume does not let this user write."""
    DISK_FULL = "DiskFull"
    """The volume has too little room; space may become free, so this comes back."""
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    """No connection, or it went silent."""
    REGISTRY_ERROR = "RegistryError"
    """The registry answers with an error of its own (5xx, 429, nonsense)."""
    UNTRUSTED_CERTIFICATE = "UntrustedCertificate"
    """TLS failed; certificates get renewed, so this comes back."""
    CORRUPT_BLOB = "CorruptBlob"
    """Bytes arrived that do not have their digest, twice."""
    STORE_FAILED = "StoreFailed"
    """The volume failed in another way (I/O error, stale handle)."""
    INTERRUPTED = "Interrupted"
    """Ended by a signal; the next run goes on where this one stopped."""

    @property
    def permanent(self) -> bool:
        """True when trying again alone cannot help."""
        return 20 <= self.exit_code < 30

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    PullReason.BAD_REFERENCE: 20,
    PullReason.BAD_CONFIGURATION: 21,
    PullReason.UNKNOWN_MODEL: 22,
    PullReason.NOT_A_MODEL: 23,
    PullReason.ACCESS_DENIED: 24,
    PullReason.DIGEST_MISMATCH: 25,
    PullReason.STORE_UNWRITABLE: 26,
    PullReason.DISK_FULL: 30,
    PullReason.REGISTRY_UNREACHABLE: 31,
    PullReason.REGISTRY_ERROR: 32,
    PullReason.UNTRUSTED_CERTIFICATE: 33,
    PullReason.CORRUPT_BLOB: 34,
    PullReason.STORE_FAILED: 35,
    PullReason.INTERRUPTED: 143,
}

PERMANENT_EXIT_CODES = (2, *sorted(reason.exit_code for reason in PullReason if reason.permanent))
"""For `onExitCodes` of a Job's pod failure policy: fail the Job at once."""


class PullError(Exception):
    """A pull's failure as a value: a reason of the closed set and one sentence that says what to do.

    The sentence never holds a token, a password or a URL with either.
    """

    def __init__(self, reason: PullReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
