"""Splits: each patient in one split, stratified as far as whole patients allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.datasets.splits import check_splits, split_patients
from models.errors import DataSetError

SHARES = (0.7, 0.15, 0.15)


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 4), min_size=3, max_size=60))
def test_every_patient_has_one_split_and_no_split_is_empty(patients: dict[str, int]) -> None:
    splits = split_patients(patients, SHARES, seed=1)
    assert set(splits) == set(patients)
    assert set(splits.values()) == {"train", "validation", "test"}
    assert splits == split_patients(dict(reversed(patients.items())), SHARES, seed=1)


def test_shares_hold_in_all_and_in_each_class() -> None:
    patients = {f"p{k:03d}": k % 4 for k in range(400)}
    splits = split_patients(patients, SHARES, seed=3)
    for stratum in (None, 0, 1, 2, 3):
        mine = [s for p, s in splits.items() if stratum in (None, patients[p])]
        shares = [mine.count(s) / len(mine) for s in ("train", "validation", "test")]
        assert shares == pytest.approx(SHARES, abs=0.02)


def test_another_seed_makes_another_split() -> None:
    patients = {f"p{k}": 0 for k in range(40)}
    assert split_patients(patients, SHARES, 1) != split_patients(patients, SHARES, 2)


@pytest.mark.parametrize("seed", range(8))
def test_four_patients_leave_each_class_in_train(seed: int) -> None:
    patients = {"a": 0, "b": 0, "c": 1, "d": 1}
    splits = split_patients(patients, SHARES, seed)
    assert sorted(splits.values()) == ["test", "train", "train", "validation"]
    assert {patients[name] for name, split in splits.items() if split == "train"} == {0, 1}
    # Where every patient shows both classes, any of them may leave train: as it always was.
    last = split_patients(patients, SHARES, seed, dict.fromkeys(patients, (0, 1)))
    assert {last["c"], last["d"]} == {"validation", "test"}


def test_a_split_without_share_stays_empty() -> None:
    splits = split_patients({"a": 0, "b": 1}, (0.5, 0.0, 0.5), seed=0)
    assert sorted(splits.values()) == ["test", "train"]


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_shares_that_are_none(shares: tuple[float, float, float]) -> None:
    with pytest.raises(DataSetError, match="add up to 1"):
        split_patients({"a": 0, "b": 0, "c": 0}, shares, seed=0)


def test_too_few_patients() -> None:
    with pytest.raises(DataSetError, match="2 patients cannot fill 3 splits"):
        split_patients({"a": 0, "b": 1}, SHARES, seed=0)


def test_a_patient_in_two_splits_is_named_with_both() -> None:
    with pytest.raises(DataSetError, match=r"here: patient b is in train and in test"):
        check_splits([("a", "train"), ("b", "train"), ("b", "test")], "here")
