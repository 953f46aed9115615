"""Which studies are written of, and what of their reports."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluate.tasks import Images
from pipelines.reporting.spec import Reporting
from pipelines.reporting.studies import Study, clean, learnt, prompt, studies


class FakeCohort:
    """Two patients; the first with three dated studies, one of them in two views and one without findings."""

    index = pa.table(
        {
            "accession": ["A1", "A1", "A2", "A3", "B1"],
            "date": ["2011-01-01", "2011-01-01", "2011-02-01", "2011-03-01", None],
        }
    )
    texts = pa.table(
        {
            "accession": ["A1", "A2", "A3", "B1"],
            "indication": ["Cough", "", "XXXX dyspnea", ""],
            "findings": ["The XXXX is clear .", "", "Edema.", "Normal."],
        }
    )


IMAGES = Images(
    np.arange(5),
    np.array(["train"] * 5, object),
    np.array(["P1"] * 4 + ["P2"], object),
    np.array(["AP", "PA", "PA", "unknown", "AP"], object),
)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Heart size is XXXX . Lungs  clear.", "Heart size is. Lungs clear."),
        ("XXXX, XXXX. No effusion.", "No effusion."),
        ("Seen by [NAME] on ____.", "Seen by on."),
        ("SIXXX lines, 3.5 cm", "SIXXX lines, 3.5 cm"),
        (None, ""),
    ],
)
def test_removed_words_leave_no_trace(raw, cleaned):
    assert clean(raw) == cleaned


def test_one_frontal_image_a_study_and_the_last_earlier_findings():
    found = studies(FakeCohort(), IMAGES, "train")
    assert [(s.row, s.findings) for s in found] == [(1, "The is clear."), (3, "Edema."), (4, "Normal.")]
    assert [s.prior for s in found] == ["", "The is clear.", ""]  # A2 has no findings, B1 no date
    assert studies(FakeCohort(), IMAGES, "test") == []


def test_what_is_told_beside_the_image():
    study = Study(0, 0, "P", "Edema.", "dyspnea", "Clear.")
    assert prompt(study, Reporting()) == "Provide a description of the findings in the radiology image.\n"
    told = prompt(study, Reporting(indication=True, prior=True))
    assert (
        told.startswith("Findings of the prior study: Clear.\n") and "given the following indication: dyspnea." in told
    )
    assert prompt(Study(0, 0, "P", "", "", ""), Reporting(indication=True, prior=True)) == prompt(study, Reporting())


def test_too_many_train_studies_are_thinned_by_seed_and_keep_their_order():
    found = [Study(i, i, f"P{i}", "x", "", "") for i in range(50)]
    kept = [s.row for s in learnt(found, 10, 0)]
    assert kept == sorted(set(kept)) == [s.row for s in learnt(found, 10, 0)] and len(kept) == 10
    assert kept != [s.row for s in learnt(found, 10, 1)] and learnt(found, 50, 0) is found
