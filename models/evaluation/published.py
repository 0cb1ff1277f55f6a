"""Figures that papers print for work of the same kind, shown beside those that were measured."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("published.toml")
SHOWN = ("precision", "f1", "recall", "specificity", "accuracy", "auc", "mean_iou")
"""Figures in the order of the columns; precision to accuracy are those of Table 2."""
TABLE_3 = "arXiv 2512.22335, Table 3"
"""Source of `published_rois`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Figures (0-1) of one model as a paper prints them.

    `source` is the paper with its table or section, `data` the paper's tissue.
    """

    model: str
    source: str
    data: str
    figures: dict[str, float]


def published(subject: str) -> list[Published]:
    """Rows for a subject: ``tumor``, ``intensity``, ``segmentation``, ``slide`` (4-way scores), or
    ``slide-`` and a task of whole slides (`models.slide_level.tasks`).

    H&E alone is other work: it has no rows.
    """
    stored = _stored()
    return [
        Published(
            model=row["model"],
            source=f"arXiv {row['paper']}, {row['source']}",
            data=stored["papers"][row["paper"]]["data"],
            figures={name: row[name] for name in SHOWN if name in row},
        )
        for row in stored["figures"]
        if row["task"] == subject
    ]


def published_rois() -> list[dict[str, Any]]:
    """Rows of `TABLE_3`, with the keys of the rows of ``rois`` in a result."""
    rows: list[dict[str, Any]] = _stored()["rois"]
    return rows


def _stored() -> dict[str, Any]:
    return tomllib.loads(STORED.read_text(encoding="utf-8"))
