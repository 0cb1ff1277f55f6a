"""Report of several weights: the paper's tables and figures, published figures named as such."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import DataSetError
from models.evaluation.epochs import epoch_curve
from models.evaluation.figures import classification, headline, segmentation
from models.evaluation.judged import Judged, JudgedPixels
from models.evaluation.published import SHOWN, published, published_rois
from models.evaluation.report import html_report
from models.evaluation.sides import quoted_names, side_names, titles
from models.spec import CLASSES, Task


def judged(seed: int, sure: float) -> Judged:
    rng = np.random.default_rng(seed)
    truth = np.arange(40) % 4
    logits = rng.normal(size=(40, 4)) + sure * np.eye(4)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Judged(truth=truth, probability=probability, patient=np.full(40, "p"))


def result(task: Task, details: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a result as a judge of three sides gives it."""
    quoted = {
        name if side == "model" else f"{side}.{name}": value
        for side, figures in details.items()
        for name, value in headline(task, figures).items()
    }
    return {
        "notice": "For research use only.",
        "data": "synthetic",
        "task": task.value,
        "sides": titles(["small 1.0", "base 1.0"]),
        "weights": {side: {"name": side, "version": "1", "sha256": "0" * 64} for side in details},
        "details": details,
        **quoted,
        **more,
    }


def row(page: str, first: str) -> list[str]:
    """Cells of the table row that begins so."""
    (found,) = re.findall(f"<tr><td>{re.escape(first)}</td>.*?</tr>", page)
    return re.findall("<td>(.*?)</td>", found)


def test_weights_stand_side_by_side_in_the_papers_tables_and_figures() -> None:
    sides = side_names(2)
    assert sides == ("model", "model-2", "baseline")
    details = {
        side: classification(judged(k, sure), Task.INTENSITY)
        for k, (side, sure) in enumerate(zip(sides, (3, 1, 0), strict=True))
    }
    made = result(Task.INTENSITY, details)
    assert quoted_names(made)[:4] == [
        f"intensity.{name}" for name in ("accuracy", "precision", "recall", "f1")
    ]
    page = html_report(made)
    # Table 2: ours and the published rows, which say that they are.
    small = details["model"]
    keys = ("precision", "f1", "recall", "specificity")
    assert row(page, "small 1.0")[:7] == [
        "small 1.0", "measured here",
        *(f"{small[f'macro_{key}']:.3f}" for key in keys), f"{small['accuracy']:.3f}",
    ]  # fmt: skip
    assert row(page, "vit-small-patch16-224")[1:7] == [
        "published: arXiv 2512.22335, Table 2", "0.875", "0.903", "0.933", "-", "0.915",
    ]  # fmt: skip
    # Fig. 6: one plot of ROC curves for all classes together and one per class, each of all sides.
    drawn = re.findall("<figure><figcaption>(.*?)</figcaption>(.*?)</figure>", page)
    roc = {title: body for title, body in drawn if title.startswith("ROC")}
    assert list(roc) == [
        "ROC, all classes pooled",
        *(f"ROC, {name} against the rest" for name in CLASSES[Task.INTENSITY]),
    ]
    area = details["model-2"]["per_class"]["weak"]["auc"]
    assert f"base 1.0, AUC {area:.3f}" in roc["ROC, weak against the rest"]
    assert all(body.count("<polyline") == 3 for body in roc.values())
    # Fig. 8: a decision curve per stain class, to 0.30.
    decisions = {title: body for title, body in drawn if title.startswith("Decision")}
    assert len(decisions) == 1 + 4
    assert all(body.count("<polyline") == 5 for body in decisions.values())
    assert ">0.3<" in decisions["Decision curve, faint against the rest"]
    assert [title for title, _ in drawn if title.startswith("Confusion")] == [
        "Confusion: small 1.0",
        "Confusion: base 1.0",
        "Confusion: baseline",
    ]


def test_mean_iou_per_epoch_is_drawn_from_the_logs_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "training.csv").write_text(
        "epoch,loss,learning_rate,validation_mean_iou,seconds\n0,1,1e-4,0.4,9\n1,0.8,1e-4,0.625,9\n"
    )
    curve = epoch_curve(tmp_path)
    assert curve == {"figure": "mean_iou", "points": [[1, 0.4], [2, 0.625]]}
    matrix = np.eye(5, dtype=np.int64)[None] * 10
    same = segmentation(JudgedPixels(matrices=matrix, patient=np.array(["a"])))
    details = dict.fromkeys(side_names(2), same)
    page = html_report(result(Task.SEGMENTATION, details, epochs={"model-2": curve}))
    (figure,) = re.findall("<figcaption>Mean IoU per epoch</figcaption>.*?</figure>", page)
    assert "base 1.0" in figure and "small 1.0" not in figure
    assert figure.count("<circle") == 2
    assert row(page, "50 epochs, validation")[1:] == [
        "published: arXiv 2512.22335, section 5.1, on Fig. 7",
        "0.672",
    ]
    assert "per epoch" not in html_report(result(Task.SEGMENTATION, details))


def test_a_log_without_a_figure_or_a_damaged_one(tmp_path: Path) -> None:
    assert epoch_curve(tmp_path) is None
    log = tmp_path / "training.csv"
    log.write_text("epoch,loss,learning_rate,seconds\n0,1,1e-4,9\n")
    assert epoch_curve(tmp_path) is None
    log.write_text("epoch,loss,validation_accuracy,seconds\n0,1,,9\n")
    assert epoch_curve(tmp_path) is None  # a training without validation tiles
    log.write_text("epoch,validation_accuracy\n0,high\n")
    with pytest.raises(DataSetError, match=r"training\.csv: no log of a training"):
        epoch_curve(tmp_path)


def test_published_figures_name_their_place() -> None:
    subjects = (*Task, "slide")
    named = [{(row.source, row.model) for row in published(subject)} for subject in subjects]
    rows = [row for subject in subjects for row in published(subject)]
    assert sum(map(len, named)) == len(rows) == 18
    for row in rows:
        assert re.fullmatch(r"arXiv \d{4}\.\d{5}, (Table \d|abstract|section 5\.1, on Fig\. 7)",
                            row.source)  # fmt: skip
        assert row.figures and set(row.figures) <= set(SHOWN)
        assert all(0 <= value <= 1 for value in row.figures.values())
    regions = published_rois()
    assert [sum(r["real"][k] for k in ("tumor", "normal")) for r in regions] == [121, *[144] * 5]
