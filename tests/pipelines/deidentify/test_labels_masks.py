"""Labels and masks: joined by accession number, re-encoded, and told apart when they cannot be."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pipelines.contract import BadInput
from pipelines.deidentify.identities import Identities
from pipelines.deidentify.labelmap import load_mapping, read_records
from pipelines.deidentify.labels import LabelReader, plain_terms
from pipelines.deidentify.masks import MaskReader, lines
from pipelines.deidentify.studies import Studies
from pipelines.keys import DerivationSecret

SECRET = DerivationSecret("test", 1, b"0" * 32)


@pytest.fixture
def studies() -> Studies:
    written = {"kind": "image", "state": "written", "claimed": None, "view": "PA", "rows": 20, "columns": 30}
    rows = [
        {**written, "accession": SECRET.accession(a), "patient": f"P{a}", "study": f"2.25.{n}"}
        for n, a in enumerate(["A1", "A2", "A3"])
    ]
    rows.append({**rows[2], "patient": "Pother"})
    rows.append({**rows[0], "view": "LL", "rows": 99})
    who = Identities(names=frozenset({"Abernathy^Ingrid"}), ids=frozenset({"MRN7700123"}))
    return Studies(rows, {SECRET.accession(a): who for a in ("A1", "A2", "A3")}, {SECRET.accession("A4")})


def read_labels(tmp_path: Path, studies: Studies, text: str) -> tuple[dict, list[str]]:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8-sig")
    reader = LabelReader(studies, SECRET)
    terms = plain_terms(tmp_path / "labels.csv")
    for record in read_records(tmp_path / "labels.csv"):
        reader.add("s1", record, terms)
    values = {(r["patient"], r["label"]): r["value"] for r in reader.rows()}
    return values, [v.reason for _, v in reader.rejected]


def test_positives_negatives_blanks_and_lines(tmp_path: Path, studies: Studies) -> None:
    text = "accession,labels,ett,swan_ganz,sex\nA1,Edema|Effusion,Y,,F\nA2,,N,U,M\n"
    values, rejected = read_labels(tmp_path, studies, text)
    assert values == {
        ("PA1", "Edema"): 1, ("PA1", "Effusion"): 1, ("PA1", "ETT"): 1, ("PA2", "ETT"): 0, ("PA2", "Swan-Ganz"): -1,
    }  # fmt: skip
    assert rejected == []


def test_rows_that_cannot_be_joined_are_told(tmp_path: Path, studies: Studies) -> None:
    text = "accession,labels,ett\nA1,Edema,\nA9,Edema,\nA3,Edema,\nA4,Edema,\nA2,Edema,maybe\n"
    values, rejected = read_labels(tmp_path, studies, text)
    assert values == {("PA1", "Edema"): 1}
    assert rejected == ["unmatched", "ambiguous", "opted_out", "malformed"]


@pytest.mark.parametrize("label", ["Edema MRN7700123", "Edema 20190304", "=cmd()", "x" * 80])
def test_a_label_is_a_term_and_no_place_for_identities(tmp_path: Path, studies: Studies, label: str) -> None:
    values, rejected = read_labels(tmp_path, studies, f"accession,labels\nA1,{label}\nA2,Edema\n")
    assert set(values) == {("PA2", "Edema")}
    assert rejected == ["malformed"]


def test_two_rows_that_disagree_are_uncertain(tmp_path: Path, studies: Studies) -> None:
    values, rejected = read_labels(tmp_path, studies, "accession,labels,ett\nA1,,Y\nA1,,N\n")
    assert values == {("PA1", "ETT"): -1}
    assert rejected == ["ambiguous"]


def test_a_site_says_how_its_table_is_written(tmp_path: Path, studies: Studies) -> None:
    (tmp_path / "labels.toml").write_text(
        'accession = "Auftrag"\npositives = "Befunde"\nseparator = ";"\ndelimiter = "\\t"\n'
        '[columns]\n"Pleural Effusion" = "erguss"\nETT = "tubus"\n'
        '[values]\npresent = ["ja"]\nabsent = ["nein"]\nuncertain = ["fraglich"]\n'
        '[names]\n"Ödem" = "Edema"\n'
    )
    text = "Auftrag\tBefunde\terguss\ttubus\nA1\tÖdem; Pneumonia\tJa\t\nA2\t\tfraglich\t0.0\n"
    values, rejected = read_labels(tmp_path, studies, text)
    assert values == {
        ("PA1", "Edema"): 1, ("PA1", "Pneumonia"): 1, ("PA1", "Pleural Effusion"): 1,
        ("PA2", "Pleural Effusion"): -1, ("PA2", "ETT"): 0,
    }  # fmt: skip
    assert rejected == []
    versions = {record.version for record in read_records(tmp_path / "labels.csv")}
    assert versions == {load_mapping(tmp_path / "labels.toml")[1]} and versions != {"1"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns = 3", "'columns'"),
        ("rows = 3", "'rows'"),
        ("[columns", "not valid TOML"),
        ('[values]\nmaybe = ["x"]', "'maybe'"),
        ('[values]\nabsent = ["Y"]', "one word"),
        ('[columns]\n"12345 Abernathy" = "x"', "plain term"),
        ('accession = "Auftrag"', "no column 'Auftrag'"),
    ],
)
def test_a_wrong_mapping_is_told_in_one_sentence(tmp_path: Path, studies: Studies, text: str, said: str) -> None:
    (tmp_path / "labels.toml").write_text(text)
    with pytest.raises(BadInput, match=r"labels\.(toml|csv)") as error:
        read_labels(tmp_path, studies, "accession,labels\nA1,Edema\n")
    assert said in str(error.value) and "Abernathy" not in str(error.value)


def test_a_label_file_without_accession_numbers_is_wrong_input(tmp_path: Path, studies: Studies) -> None:
    with pytest.raises(BadInput):
        read_labels(tmp_path, studies, "study,labels\nA1,Edema\n")


def png(shape: tuple[int, int]) -> bytes:
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Comment", "drawn for Abernathy")
    mask = np.zeros(shape, np.uint8)
    mask[3:9, 4:8] = 200
    Image.fromarray(mask).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def read_masks(tmp_path: Path, studies: Studies, files: dict[str, bytes]) -> tuple[list[dict], list[str]]:
    reader = MaskReader(tmp_path / "out", studies, SECRET)
    for n, (relative, data) in enumerate(files.items()):
        path = tmp_path / "export" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if path.suffix == ".png":
            reader.add_mask(f"s{n}", relative, path)
        else:
            for line in lines(path):
                reader.add_line(f"s{n}", line)
    return sorted(reader.table(), key=lambda r: r["structure"]), [v.reason for _, v in reader.rejected]


def test_masks_are_encoded_anew_and_keep_their_pixels(tmp_path: Path, studies: Studies) -> None:
    files = {"lung_masks/A1.png": png((20, 30)), "masks/ETT/A2.png": png((20, 30))}
    rows, rejected = read_masks(tmp_path, studies, files)
    assert rejected == []
    assert [r["structure"] for r in rows] == ["ett", "lung"]
    data = (tmp_path / "out" / rows[1]["output"]).read_bytes()
    assert b"Abernathy" not in data
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert (pixels > 0).sum() == 24 and pixels[3, 4] == 255


def test_masks_of_another_size_study_or_structure_are_told(tmp_path: Path, studies: Studies) -> None:
    files = {
        "lung_masks/A1.png": png((99, 30)),
        "lung_masks/A9.png": png((20, 30)),
        "masks/John Smith/A1.png": png((20, 30)),
        "masks/heart/A1.png": b"\x89PNG cut off",
    }
    rows, rejected = read_masks(tmp_path, studies, files)
    assert [r for r in rows if r["output"]] == []
    assert rejected == ["malformed", "unmatched", "malformed", "malformed"]


def test_polylines_are_read_with_their_position(tmp_path: Path, studies: Studies) -> None:
    good = {"accession": "A1", "structure": "ett", "points": [[1, 2], [3.5, 4]], "position": "abnormal"}
    lines = [good, {**good, "position": "Abernathy"}, {**good, "points": [[1]]}]
    text = "\n".join(["{", *map(json.dumps, lines)])
    rows, rejected = read_masks(tmp_path, studies, {"lines.jsonl": text.encode()})
    assert [(r["points"], r["position"], r["output"]) for r in rows] == [([1, 2, 3.5, 4], "abnormal", None)]
    assert rejected == ["malformed"] * 3


def test_a_name_in_place_of_a_label_becomes_nobodys_label(tmp_path: Path, studies: Studies) -> None:
    few = "accession,labels\nA1,Edema|Wolfhagenroth\nA2,Edema\n"
    values, rejected = read_labels(tmp_path, studies, few)
    assert {label for _, label in values} == {"Edema"}
    assert rejected == ["malformed"]
    many = "accession,labels\nA1,Fleckschatten\nA2,\n" + "".join(f"B{n},Fleckschatten\n" for n in range(4))
    values, _ = read_labels(tmp_path, studies, many)
    assert values[("PA1", "Fleckschatten")] == 1


def test_two_lines_of_one_structure_are_both_kept(tmp_path: Path, studies: Studies) -> None:
    reader = MaskReader(tmp_path, studies, SECRET)
    for points, position in (([[1, 2], [3, 4]], "normal"), ([[5, 6], [7, 8]], "abnormal"), ([[0, 0], [9, 9]], None)):
        row = {"accession": "A1", "structure": "CVC", "points": points, "position": position}
        reader.add_line("s1", json.dumps(row))
    (row,) = reader.table()
    assert [p for p in row["points"] if p == p] == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 9, 9]
    assert len(row["points"]) == 16 and row["position"] == "abnormal"
