"""Reading a cohort. Needs numpy and pyarrow only, so that it runs on a bare GPU image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import tables
from pipelines.cohort.layout import TABLES, cohort_digest, shard_name
from pipelines.contract import BadInput, read_json
from pipelines.keys import SPLITS

# Every mapped shard holds a file descriptor and 3.5M images are about 4,300 shards; the usual limit is 1,024.
OPEN_SHARDS = 256


@dataclass(frozen=True)
class Subset:
    """A prefix of whole train patients in the one keyed order; a larger subset of the cohort contains a smaller one."""

    rows: np.ndarray
    """int64 image rows, in index order."""
    samples: int
    studies: int
    patients: list[str]
    """Pseudonyms in order."""


class Cohort:
    """A finished cohort folder. Opening reads `result.json` and checks the tables; columns and pixels come lazily."""

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder = folder
        self.result = result
        self.digest: str = result["digest"]
        self.practice: bool = result["practice"]
        self.side: int = result["side"]
        self.policies: tuple[str, ...] = tuple(result["policies"])
        self.public_set: str | None = result.get("public_set")
        """Name of the set from outside the site that the cohort holds; None for a site's own."""
        self._maps: OrderedDict[int, np.memmap] = OrderedDict()

    @classmethod
    def open(cls, folder: Path) -> Cohort:
        """The cohort in `folder`; BadInput when it is not finished, or its tables or shards are not what was built."""
        folder = Path(folder)
        if not (folder / "result.json").exists():
            raise BadInput(f"The cohort {folder.name} is not finished; run build on it to the end.")
        result = read_json(folder / "result.json")
        try:
            cohort = cls(folder, result)
            sizes = {shard_name(i): shard["bytes"] for i, shard in enumerate(result["shards"])}
            whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
            whole = whole and cohort_digest(folder, [s["sha256"] for s in result["shards"]]) == cohort.digest
        except (KeyError, TypeError, OSError):
            whole = False
        if not whole:
            raise BadInput(f"The cohort {folder.name} is damaged or of another version; build it again.")
        return cohort

    def __reduce__(self) -> tuple[Any, ...]:
        return (Cohort, (self.folder, self.result))

    def __len__(self) -> int:
        return len(self._column("split"))

    @cached_property
    def index(self) -> pa.Table:
        """One row per image (tables.INDEX), sorted by order, patient, study, instance."""
        return tables.read_table(self.folder / TABLES["index"], tables.INDEX)

    @cached_property
    def texts(self) -> pa.Table:
        """One row per study with a report (tables.TEXTS)."""
        return tables.read_table(self.folder / TABLES["texts"], tables.TEXTS)

    @cached_property
    def labels(self) -> pa.Table:
        """Long form (tables.COHORT_LABELS): no row means blank, -1 uncertain."""
        return tables.read_table(self.folder / TABLES["labels"], tables.COHORT_LABELS)

    @cached_property
    def masks(self) -> pa.Table:
        """One row per image and structure (tables.COHORT_MASKS)."""
        return tables.read_table(self.folder / TABLES["masks"], tables.COHORT_MASKS)

    def image(self, row: int) -> np.ndarray:
        """Pixels of an image: uint8 [H, W], read-only, mapped from the shard; the shorter side is `side`."""
        shard, offset, height, width = self._geometry
        start = int(offset[row])
        h, w = int(height[row]), int(width[row])
        return self._map(int(shard[row]))[start : start + h * w].reshape(h, w)

    def rows(self, split: str) -> np.ndarray:
        """int64 image rows of `train`, `validation` or `test`, in index order."""
        if split not in SPLITS:
            raise BadInput(f"There is no split '{split}'; choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(pc.equal(self._column("split"), split).to_numpy(zero_copy_only=False)).astype(np.int64)

    def subset(self, samples: int | None) -> Subset:
        """The prefix of whole train patients whose images come nearest `samples`; None takes all.

        Of two equally near prefixes the smaller is taken. BadInput when there are fewer train images than asked for.
        """
        rows = self.rows("train")
        if samples is not None and samples > len(rows):
            raise BadInput(f"The cohort has {len(rows)} train images, fewer than the {samples} asked for; lower N.")
        patients = self._column("patient").take(pa.array(rows)).dictionary_encode().combine_chunks()
        codes = patients.indices.to_numpy()
        ends = np.flatnonzero(np.append(codes[1:] != codes[:-1], len(codes) > 0)) + 1
        count = len(ends)
        if samples is not None:
            count = 1 + int(np.argmin(np.abs(ends - samples)))
        rows = rows[: ends[count - 1]] if count else rows
        studies = len(pc.unique(self._column("study").take(pa.array(rows))))
        return Subset(rows, len(rows), studies, patients.dictionary.to_pylist()[:count])

    def label_names(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted(pc.unique(self._read("labels", ["label"])["label"]).to_pylist())

    def label_matrix(self, names: list[str]) -> np.ndarray:
        """float32 [images, L] of the labels of each image's study: 1, 0, and nan for blank or uncertain."""
        matrix = np.full((len(self), len(names)), np.nan, np.float32)
        study = self._column("accession").combine_chunks().dictionary_encode()
        of_image = study.indices.to_numpy()
        labels = self._read("labels", ["accession", "label", "value"])
        place = pc.fill_null(pc.index_in(labels["accession"], study.dictionary), -1).to_numpy()
        value = labels["value"].to_numpy()
        for i, name in enumerate(names):
            known = pc.equal(labels["label"], name).to_numpy() & (value >= 0) & (place >= 0)
            by_study = np.full(len(study.dictionary), np.nan, np.float32)
            by_study[place[known]] = value[known]
            matrix[:, i] = by_study[of_image]
        return matrix

    def text(self, row: int) -> str | None:
        """Findings and impression of the report of the image's study; None when it has none."""
        place = int(self._text_places[row])
        if place < 0:
            return None
        parts = (self._reports[column][place].as_py() for column in ("findings", "impression"))
        return "\n".join(part for part in parts if part) or None

    @cached_property
    def _reports(self) -> pa.Table:
        """What `text` needs of `texts`: of millions of reports the other columns would be most of the memory."""
        return self._read("texts", ["accession", "findings", "impression"])

    @cached_property
    def _text_places(self) -> np.ndarray:
        """int32 [images]: row in `texts` of each image's study, -1 for none."""
        places = pc.index_in(self._column("accession"), self._reports["accession"].combine_chunks())
        return pc.fill_null(places, -1).to_numpy()

    @cached_property
    def _geometry(self) -> tuple[np.ndarray, ...]:
        return tuple(self._column(name).to_numpy() for name in ("shard", "offset", "rows", "columns"))

    def _column(self, name: str) -> pa.ChunkedArray:
        """One column of the index; the others of millions of rows stay on disk."""
        columns = self.__dict__.setdefault("_columns", {})
        if name not in columns:
            columns[name] = self._read("index", [name])[name]
        return columns[name]

    def _read(self, table: str, columns: list[str]) -> pa.Table:
        return pq.read_table(self.folder / TABLES[table], columns=columns)

    def _map(self, shard: int) -> np.memmap:
        if shard not in self._maps:
            if len(self._maps) >= OPEN_SHARDS:
                self._maps.popitem(last=False)  # views that are still in use keep their own mapping alive
            self._maps[shard] = np.memmap(self.folder / shard_name(shard), np.uint8, "r")
        self._maps.move_to_end(shard)
        return self._maps[shard]
