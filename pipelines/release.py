"""Reading a release: the privacy officer's signed verdict on a de-identified folder (DESIGN, section 4).

Signing needs the control plane's private key and lives in the server; this side holds the public key only, so no
stage can release data.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pipelines.contract import BadInput, read_json, sha256_file

# What a verdict covers. The manifest and the mask table carry the digests of every file they list.
COVERED = ("manifest.parquet", "patients.parquet", "reports.parquet", "labels.parquet", "masks.parquet")


def folder_digest(folder: Path) -> str:
    """Digest of a de-identified folder: SHA-256 over the digests of its tables, in a fixed order."""
    lines = [f"{name} {sha256_file(folder / name) if (folder / name).exists() else '-'}" for name in COVERED]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def signed_bytes(release: dict[str, Any]) -> bytes:
    """The bytes a signature covers: the release without its signature, in canonical JSON."""
    body = {k: v for k, v in release.items() if k != "signature"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def require_release(folder: Path, public_key: Path) -> dict[str, Any]:
    """The valid release of `folder`; BadInput says what is wrong when it is not released, altered or unsigned."""
    path = folder / "release.json"
    if not path.exists():
        raise BadInput("The export is not released; a privacy officer must review and release it first.")
    release = require_signed(path, public_key)
    if release.get("verdict") != "released":
        raise BadInput("The export was sent back, not released; de-identify and review it again.")
    if release.get("digest") != folder_digest(folder):
        raise BadInput("The de-identified export was changed after its release; review and release it again.")
    return release


def require_signed(path: Path, public_key: Path) -> dict[str, Any]:
    """A record that the control plane signed; BadInput when it is not signed with that key, or altered."""
    record = read_json(path)
    try:
        key: Any = load_pem_public_key(public_key.read_bytes())
        key.verify(base64.b64decode(record.get("signature", "")), signed_bytes(record))
    except (InvalidSignature, ValueError):
        raise BadInput(
            f"{path.name} is not signed by this control plane; review and release the export again."
        ) from None
    except OSError:
        raise BadInput(f"The release key {public_key.name} cannot be read; check the path.") from None
    return record
