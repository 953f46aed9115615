"""Pseudonyms are stateless, separated by use, and say nothing without the secret."""

import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contract import BadInput
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key

A = DerivationSecret("north", 1, b"a" * 32)
B = DerivationSecret("north", 2, b"a" * 32)
C = DerivationSecret("south", 1, b"c" * 32)


@given(st.text(max_size=64))
def test_uids_are_valid_and_secrets_share_none(uid):
    new = A.uid(uid)
    assert re.fullmatch(r"2\.25\.(0|[1-9]\d*)", new)
    assert len(new) <= 44
    assert new == DerivationSecret("north", 1, b"a" * 32).uid(uid)
    assert len({new, B.uid(uid), C.uid(uid)}) == 3, "another epoch or site gives other UIDs"


@given(st.text(max_size=20), st.text(max_size=20))
def test_patient_pseudonyms_fit_their_vr_and_join_only_the_same_patient(issuer, patient):
    name = A.patient(issuer, patient)
    assert re.fullmatch(r"P[A-Z2-7]{16}", name)
    assert A.patient(f" {issuer.lower()} ", f"{patient} ") == A.patient(issuer.lower(), patient)
    assert re.fullmatch(r"A[A-Z2-7]{15}", A.accession(patient)), "AccessionNumber is SH: 16 characters"


def test_issuer_and_id_are_not_joined_ambiguously():
    assert A.patient("HOSP1", "23") != A.patient("HOSP", "123")


@given(st.text(max_size=20))
def test_shift_is_whole_weeks_back_and_never_zero(patient):
    shift = A.shift_days(patient)
    assert shift % 7 == 0
    assert -7 * 520 <= shift <= -7


def test_splits_are_disjoint_stable_and_near_their_shares():
    patients = [f"P{i}" for i in range(5000)]
    shares = {s: sum(A.split(p) == s for p in patients) / 5000 for s in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.02)
    orders = [A.order(p) for p in patients]
    assert len(set(orders)) == 5000
    assert 0 <= min(orders) < max(orders) < 1


def test_a_published_value_never_changes():
    """Splits and pseudonyms are for ever: a change of the derivation would silently move every patient."""
    assert A.patient("X", "1") == "PX3XLF3TLSST6ETJH"
    assert A.split("PX3XLF3TLSST6ETJH") == "train"


def test_key_files_are_private_and_never_overwritten(tmp_path):
    path = tmp_path / "keys" / "site.key"
    made = DerivationSecret.create(path, "north")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert DerivationSecret.load(path).uid("1.2") == made.uid("1.2")
    with pytest.raises(BadInput, match="exists already"):
        DerivationSecret.create(path)
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        DerivationSecret.load(path)
    key = create_vault_key(tmp_path / "vault.key")
    assert len(key) == 32
    assert load_vault_key(tmp_path / "vault.key") == key
