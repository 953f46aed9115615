"""Stage `scan`: read an export once, write its partitioned inventory and the vault of real paths."""

from __future__ import annotations

from typing import Any

from pipelines.contract import RunFolder, read_json
from pipelines.keys import DerivationSecret, load_vault_key
from pipelines.parallel import Pool
from pipelines.phases import Crew
from pipelines.scan.dicom import configure_pydicom
from pipelines.scan.files import remove_half_written, require_apart
from pipelines.scan.inventory import Source, drop_steps, scan_export
from pipelines.scan.spec import Spec


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Counts of the export by kind and by reason of quarantine."""
    secret, vault_key = DerivationSecret.load(spec.secret), load_vault_key(spec.vault_key)
    configure_pydicom()
    require_apart(spec.export, run.root)
    remove_half_written(run.root)
    with Pool(spec.workers, run, item_seconds=spec.item_seconds) as pool:
        listing = scan_export(Source(spec.export, run.root, secret, vault_key, spec.issuer), Crew(pool, run.root))
    drop_steps(run.root)
    run.artifact("inventory", run.root / "inventory")
    counts = read_json(run.root / "inventory" / "summary.json")["counts"]
    return {"files": listing.files, "parts": listing.parts, "counts": counts, "site": secret.fingerprint}
