"""Validation figure per epoch of a training (Fig. 7 of arXiv 2512.22335), from its log."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from models.errors import DataSetError

LOG_NAME = "training.csv"
PREFIX = "validation_"
"""Start of the name of the log's column with the figure on validation tiles."""


def epoch_curve(folder: Path) -> dict[str, Any] | None:
    """Read the log beside weights: ``figure`` and ``points``, [epoch from 1, value].

    None without a log, or where the log has no figure: weights may be copied without it.

    Raises
    ------
    DataSetError
        If the log is damaged.
    """
    path = folder / LOG_NAME
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        column = next((name for name in rows[0] if name.startswith(PREFIX)), None) if rows else None
        if column is None:
            return None
        points = [[int(row["epoch"]) + 1, float(row[column])] for row in rows if row[column]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as err:
        raise DataSetError(
            f"{path}: no log of a training ({err}). Remove it, or train again."
        ) from err
    return {"figure": column.removeprefix(PREFIX), "points": points} if points else None
