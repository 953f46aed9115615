"""An evaluation whose test patients were pretrained on is refused."""

import pyarrow as pa
import pytest

from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.contract import BadInput
from pipelines.evaluate.leakage import check_leakage
from pipelines.evaluate.models import Model
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import bare_model


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort.open(make_cohort(tmp_path_factory.mktemp("leak") / "cohort", side=32))


def patients(cohort, split):
    return sorted(set(cohort.index.take(cohort.rows(split))["patient"].to_pylist()))


def test_models_pretrained_on_train_and_validation_pass(cohort, tmp_path):
    train, validation, test = (patients(cohort, split) for split in ("train", "validation", "test"))
    seen = [*train, *validation, "PELSEWHERE"]
    assert train and validation and test
    check_leakage(cohort, [Model.open(bare_model(tmp_path / "m", "clean", patients=seen))])
    with pytest.raises(BadInput, match="1 test patient"):
        check_leakage(cohort, [Model.open(bare_model(tmp_path / "n", "leaky", patients=[*seen, test[0]]))])


def test_one_test_patient_in_one_of_several_models_is_refused_by_name_and_number(cohort, tmp_path):
    clean = Model.open(bare_model(tmp_path / "a", "clean", patients=patients(cohort, "train")))
    seen = patients(cohort, "train") + patients(cohort, "test")[:2]
    leaky = Model.open(bare_model(tmp_path / "b", "leaky", patients=seen))
    with pytest.raises(BadInput, match="2 test patients of this cohort were pretrained on by model leaky") as refused:
        check_leakage(cohort, [clean, leaky])
    assert "clean" not in str(refused.value)
    assert not any(p in str(refused.value) for p in seen)


def test_a_model_without_its_list_of_patients_is_refused(cohort, tmp_path):
    folder = bare_model(tmp_path / "m", "silent")
    (folder / "patients.parquet").unlink()
    with pytest.raises(BadInput, match=r"patients\.parquet is missing"):
        check_leakage(cohort, [Model.open(folder)])


def test_a_patient_in_two_splits_is_refused(tmp_path):
    cohort = Cohort.open(make_cohort(tmp_path / "cohort", side=32))
    rows = cohort.index.to_pylist()
    moved = next(i for i, row in enumerate(rows) if row["split"] == "train")
    rows[moved]["split"] = "test"
    cohort.index = pa.Table.from_pylist(rows, schema=tables.INDEX)
    with pytest.raises(BadInput, match="1 patients of this cohort stand in more than one split"):
        check_leakage(cohort, [])
