"""The reader against the writer, and against a plain reading of the same tables."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cohort import Cohort, reader
from pipelines.cohort.writer import Part, assemble_shards, place_images, stored_shape, write_part
from pipelines.contract import BadInput
from tests.cohorts import make_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return Cohort.open(make_cohort(tmp_path_factory.mktemp("cohort") / "c"))


def test_images_read_back_at_their_place(cohort: Cohort) -> None:
    """Read straight from the shard files by the index's own numbers."""
    assert len(cohort.result["shards"]) > 1
    for row in cohort.index.to_pylist():
        data = (cohort.folder / f"images/shard-{row['shard']:05d}.bin").read_bytes()
        expected = np.frombuffer(data, np.uint8, row["rows"] * row["columns"], row["offset"])
        image = cohort.image(row["image"])
        assert np.array_equal(image.ravel(), expected)
        assert min(image.shape) == cohort.side
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


def test_many_shards_need_few_descriptors(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "OPEN_SHARDS", 1)
    fresh = Cohort.open(cohort.folder)
    first = fresh.image(0)
    copy = first.copy()
    fresh.image(len(fresh) - 1)
    assert len(fresh._maps) == 1
    assert np.array_equal(first, copy)


def test_rows_of_the_splits_part_the_cohort(cohort: Cohort) -> None:
    rows = np.concatenate([cohort.rows(split) for split in ("train", "validation", "test")])
    assert sorted(rows.tolist()) == list(range(len(cohort)))
    patients = {s: {cohort.index["patient"][int(r)].as_py() for r in cohort.rows(s)} for s in ("train", "test")}
    assert not patients["train"] & patients["test"]
    with pytest.raises(BadInput):
        cohort.rows("tarin")


def test_subsets_are_nested_prefixes_of_whole_train_patients(cohort: Cohort) -> None:
    total = len(cohort.rows("train"))
    train = cohort.rows("train").tolist()
    smaller: list[int] = []
    for samples in range(1, total + 1):
        subset = cohort.subset(samples)
        rows = subset.rows.tolist()
        assert rows == train[: len(rows)] and rows[: len(smaller)] == smaller
        # Two images a patient: whole patients make even sizes, and of two equally near ones the smaller is taken.
        assert subset.samples == max(2, samples - samples % 2)
        owners = [cohort.index["patient"][row].as_py() for row in rows]
        assert list(dict.fromkeys(owners)) == subset.patients
        left = {cohort.index["patient"][row].as_py() for row in train[len(rows) :]}
        assert not left & set(owners)
        smaller = rows
    assert cohort.subset(None).samples == total
    with pytest.raises(BadInput, match="fewer"):
        cohort.subset(total + 1)


def test_label_matrix_equals_a_plain_reading(cohort: Cohort) -> None:
    names = cohort.label_names()
    matrix = cohort.label_matrix([*names, "Unheard of"])
    known = {(r["accession"], r["label"]): r["value"] for r in cohort.labels.to_pylist()}
    for row, accession in enumerate(cohort.index["accession"].to_pylist()):
        for column, name in enumerate(names):
            value = known.get((accession, name), -1)
            assert np.isnan(matrix[row, column]) if value < 0 else matrix[row, column] == value
    assert np.isnan(matrix[:, -1]).all()
    assert np.isnan(matrix[:, :-1]).any() and matrix.dtype == np.float32


def test_texts_are_those_of_the_study(cohort: Cohort) -> None:
    texts = {row["accession"]: row for row in cohort.texts.to_pylist()}
    accessions = cohort.index["accession"].to_pylist()
    assert any(a not in texts for a in accessions)
    for row, accession in enumerate(accessions):
        expected = texts.get(accession)
        assert cohort.text(row) == (expected and f"{expected['findings']}\n{expected['impression']}")


def test_a_pickled_cohort_reads_the_same(cohort: Cohort) -> None:
    """Loaders send it to their processes."""
    cohort.image(0)
    assert np.array_equal(pickle.loads(pickle.dumps(cohort)).image(5), cohort.image(5))  # noqa: S301


def test_an_unfinished_or_damaged_cohort_is_refused(tmp_path: Path) -> None:
    folder = make_cohort(tmp_path / "c", patients=4)
    result = json.loads((folder / "result.json").read_text())
    Cohort.open(folder)
    with (folder / "images" / "shard-00000.bin").open("r+b") as f:
        f.truncate(100)
    with pytest.raises(BadInput, match="damaged"):
        Cohort.open(folder)
    make_cohort(tmp_path / "d", patients=5)
    (tmp_path / "d" / "labels.parquet").write_bytes((folder / "labels.parquet").read_bytes())
    with pytest.raises(BadInput, match="damaged"):
        Cohort.open(tmp_path / "d")
    del result["shards"]
    (folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(BadInput, match="damaged"):
        Cohort.open(folder)
    (folder / "result.json").unlink()
    with pytest.raises(BadInput, match="not finished"):
        Cohort.open(folder)


def test_the_same_cohort_has_the_same_digest(tmp_path: Path, cohort: Cohort) -> None:
    assert Cohort.open(make_cohort(tmp_path / "a")).digest == cohort.digest
    assert Cohort.open(make_cohort(tmp_path / "b", seed=1)).digest != cohort.digest


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(50, 120))
def test_places_never_overlap_nor_cross_a_shard(sizes: list[int], limit: int) -> None:
    shards, offsets = place_images(np.array(sizes, np.int64), limit)
    ends: dict[int, int] = {}
    for size, shard, offset in zip(sizes, shards.tolist(), offsets.tolist(), strict=True):
        assert offset == ends.get(shard, 0) and offset + size <= limit
        ends[shard] = offset + size
    assert sorted(ends) == list(range(len(ends)))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=6), st.integers(9, 30))
def test_shards_hold_the_parts_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    images = [[np.full((1, size), n % 256, np.uint8) for size in part] for n, part in enumerate(parts)]
    written = [write_part(folder / "parts" / f"{n}", part) for n, part in enumerate(images)]
    places = list(assemble_shards(folder, written, limit))
    joined = b"".join(path.read_bytes() for path in sorted((folder / "images").glob("*.bin")))
    assert joined == b"".join(image.tobytes() for part in images for image in part)
    assert sum(len(place[0]) for place in places) == sum(map(len, parts))
    assert not [part for part in written if part.sizes and part.path.exists()]


def test_assembly_goes_on_from_finished_shards(tmp_path: Path) -> None:
    images = [np.full((4, 4), i, np.uint8) for i in range(6)]
    parts = [write_part(tmp_path / "parts" / f"{i}", images[2 * i : 2 * i + 2]) for i in range(3)]
    begun = assemble_shards(tmp_path, parts, 48)
    first = next(begun)
    begun.close()
    # The first part lies wholly in the finished shard and is gone; only its sizes are still known.
    assert not parts[0].path.exists() and parts[1].path.exists()
    again = list(assemble_shards(tmp_path, [Part(p.path, p.sizes) for p in parts], 48))
    assert again[0][2] == first[2]
    assert (tmp_path / "images" / "shard-00001.bin").read_bytes() == b"".join(i.tobytes() for i in images[3:])


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(8, 600))
def test_the_shorter_side_is_the_side(rows: int, columns: int, side: int) -> None:
    height, width = stored_shape(rows, columns, side)
    assert min(height, width) == side
    assert (height <= width) == (rows <= columns) or height == width
