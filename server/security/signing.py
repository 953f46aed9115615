"""The control plane's signing key (Ed25519): releases and the head of the audit log. No worker can read it."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pipelines.contract import BadInput, write_atomic
from pipelines.release import signed_bytes
from server.settings import Settings


def ensure_key_pair(settings: Settings) -> None:
    """Make the key pair at the first start; the public half is written anew from the private one when it is missing."""
    if not settings.signing_key.exists():
        key = Ed25519PrivateKey.generate()
        write_private(
            settings.signing_key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        )
    if not settings.release_public_key.exists():
        public = public_key(settings).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_atomic(settings.release_public_key, public)
        settings.release_public_key.chmod(0o600)


def private_key(settings: Settings) -> Ed25519PrivateKey:
    """The private key; BadInput when it is missing or open to others."""
    path = settings.signing_key
    try:
        if path.stat().st_mode & 0o077:
            raise BadInput(f"The signing key {path.name} is open to other users; run chmod 600 on it.")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError):
        raise BadInput(f"The signing key {path.name} cannot be read; check the path and who may read it.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"The signing key {path.name} is not an Ed25519 key.")
    return key


def public_key(settings: Settings) -> Ed25519PublicKey:
    return private_key(settings).public_key()


def sign(record: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """`record` with its signature. Ed25519 is deterministic: the same record gives the same bytes."""
    return record | {"signature": base64.b64encode(private_key(settings).sign(signed_bytes(record))).decode()}


def write_private(path: Path, text: str) -> None:
    """A new file with mode 0600, whole or not at all; an existing one is kept (another process was first)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
