"""Passwords: argon2id with the library's current parameters (RFC 9106), rehashed when those change."""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from server.errors import Invalid

MINIMUM = 12
_hasher = PasswordHasher()
# Verified against when there is no such user, so that a name cannot be told from the time an answer takes.
_DUMMY = _hasher.hash("no such user")


def hash_password(password: str) -> str:
    """The argon2 hash of a password; Invalid when it is too short to resist guessing."""
    if len(password) < MINIMUM:
        raise Invalid(f"The password is too short: choose one of at least {MINIMUM} characters.")
    if len(password) > 1000:
        raise Invalid("The password is too long: choose one of at most 1000 characters.")
    return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether `password` belongs to `stored`; takes as long when there is none."""
    try:
        return _hasher.verify(stored or _DUMMY, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
