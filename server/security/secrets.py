"""Random secrets of the web: tokens, session cookies, the set-up link. Only their SHA-256 is stored.

They hold 256 bits of randomness, so a plain hash is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import secrets

TOKEN_PREFIX = "imu_"  # noqa: S105 - a marker that secret scanners can look for


def new_token() -> str:
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """What is stored of a secret: hex SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()
