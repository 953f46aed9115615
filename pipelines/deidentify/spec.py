"""Spec of `deidentify`: an export in, a de-identified folder with its proof out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

from pydantic import Field

from pipelines.contract import BadInput, Ref
from pipelines.contract import Spec as Base
from pipelines.parallel import ITEM_SECONDS

ReportField = Literal[
    "accession", "study_uid", "patient_id", "issuer", "name", "date", "birth", "signed", "status", "staff", "phone",
    "address", "institution", "text", "findings", "impression",
]  # fmt: skip


class Spec(Base):
    export: Annotated[Path, Ref("export")]
    secret: Annotated[Path, Ref("internal")]
    """File of the site's derivation secret."""
    vault_key: Annotated[Path, Ref("internal")]
    policy: str = "longitudinal-research"
    """Name of a preset (`longitudinal-research`, or `basic`, which keeps no date) or path of a TOML file."""
    issuer: Annotated[str, Ref("internal")] = ""
    """The site's default issuer of patient IDs."""
    opt_out: Annotated[Path | None, Ref("internal")] = None
    """Text file, one patient ID a line: dropped before anything is written, and counted."""
    aliases: Annotated[Path | None, Ref("internal")] = None
    """CSV file of merged patients: an old patient ID and the current one a row (deidentify/aliases.py)."""
    report_columns: Annotated[dict[ReportField, str], Ref("internal")] = Field(default_factory=dict)
    """What the columns of the site's report tables hold: field -> column name; others are known by names in use."""
    review: int = Field(0, ge=0, le=5000)
    """Instances drawn at random for review; 0 takes what the sampling plan asks for an export of this size."""
    workers: int = Field(0, ge=0)
    """Processes; 0 takes one per core. The output does not depend on it."""
    share_of: Annotated[Path | None, Ref("internal")] = None
    """Run folder of the same de-identification, at work elsewhere: help with it instead of beginning one."""
    item_seconds: float = Field(ITEM_SECONDS, ge=1)
    """A file may take so long, and a second more for each megabyte; one that takes longer is quarantined."""


def read_columns(lines: Iterable[str]) -> dict[ReportField, str]:
    """`report_columns` from lines like `text = Befund`; BadInput names the first that says no column."""
    pairs = [line.partition("=") for line in lines if line.strip()]
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    if wrong := [name for name, column in columns.items() if name not in get_args(ReportField) or not column]:
        known = ", ".join(get_args(ReportField))
        raise BadInput(f"'{wrong[0][:40]}' says no column; write lines like 'text = Befund' with one of {known}.")
    return cast(dict[ReportField, str], columns)
