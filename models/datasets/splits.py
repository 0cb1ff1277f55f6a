"""Splits of patients into train, validation and test; no patient is in two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, get_args

import numpy as np

from models.errors import DataSetError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Shares = tuple[float, float, float]


def split_patients(
    patients: Mapping[str, int],
    shares: Shares,
    seed: int,
    shown: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Split]:
    """Return a split for each patient. `patients` maps each one to a stratum (its main class).

    Equal seeds give equal splits. Within each stratum and overall, the shares come as near to
    `shares` (train, validation, test) as whole patients allow. `shown` has the classes of each
    patient (None: the stratum alone): where a split would stay empty, a patient leaves train for it
    whose classes others in train show, too, if there is one.

    Raises
    ------
    DataSetError
        If `shares` are invalid, or there are fewer patients than splits.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataSetError(f"shares {shares}: three numbers from 0 on that add up to 1")
    wanted = [k for k in range(3) if shares[k] > 0]
    if len(patients) < len(wanted):
        raise DataSetError(
            f"{len(patients)} patients cannot fill {len(wanted)} splits: a patient is in one split "
            "only. Add patients, or give fewer splits (--splits 0.5,0,0.5)."
        )
    names = sorted(patients)
    order = [names[k] for k in np.random.default_rng([seed, 0x5B11]).permutation(len(names))]
    order.sort(key=lambda name: patients[name])  # stable: stratum after stratum
    taken = np.zeros(3)
    in_stratum: dict[int, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    chosen: dict[str, int] = {}
    share = np.array(shares)
    for name in order:
        mine = in_stratum.setdefault(patients[name], np.zeros(3))
        # The split with the largest deficit in the stratum and overall.
        lack = share * (mine.sum() + 1) - mine + share * (taken.sum() + 1) - taken
        lack[share == 0] = -np.inf
        k = int(lack.argmax())
        mine[k] += 1
        taken[k] += 1
        chosen[name] = k
    classes = shown or {name: (stratum,) for name, stratum in patients.items()}
    for k in wanted:  # with few patients a split may still be empty
        if taken[k] == 0:
            richest = int(taken.argmax())
            members = [n for n in reversed(order) if chosen[n] == richest]
            held = Counter(c for n in members for c in set(classes[n]))
            spare = (n for n in members if richest > 0 or all(held[c] > 1 for c in classes[n]))
            name = next(spare, members[0])
            chosen[name] = k
            taken[richest] -= 1
            taken[k] += 1
    return {name: SPLITS[k] for name, k in chosen.items()}


def check_splits(tiles: Iterable[tuple[str, Split]], where: str) -> None:
    """Check the (patient, split) of each tile of a data set; `where` names it in the error.

    Raises
    ------
    DataSetError
        If a patient is in two splits.
    """
    seen: dict[str, Split] = {}
    for patient, split in tiles:
        first = seen.setdefault(patient, split)
        if first != split:
            raise DataSetError(
                f"{where}: patient {patient} is in {first} and in {split}. A patient's tiles "
                "belong to one split: correct the split column, or build the data set again."
            )


def patients_per_split(tiles: Iterable[tuple[str, Split]]) -> Counter[Split]:
    """Number of patients per split."""
    return Counter(split for _, split in set(tiles))
