"""Section of a report for one network's task: its tables and plots, all sides in one.

The tables and figures are those of arXiv 2512.22335: Table 2, Fig. 6 (confusion, ROC), Fig. 7 (mean
IoU per epoch), Fig. 8 (decision curves).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from models.evaluation.html import number, plots, table
from models.evaluation.published import SHOWN as COLUMNS
from models.evaluation.published import published
from models.evaluation.svg import COLORS, Line, line_plot, matrix_plot
from models.spec import CLASSES, Task

TITLES = {
    Task.TUMOR: "C · tumor on H&E tiles",
    Task.INTENSITY: "L · stain intensity of IHC tiles",
    Task.SEGMENTATION: "M · HER2 class of IHC pixels",
}
KEYS = {
    name: f"macro_{name}" if name in ("precision", "f1", "recall", "specificity", "auc") else name
    for name in COLUMNS
}
"""Figures of `COLUMNS` by their names in details."""
MOST_DOTS = 60
"""Points of a training curve from which on they are not marked."""
Sides = Mapping[str, Any]
"""Figures of each side, by the side's words; the first side has been judged on something."""


def section(task: Task, sides: Sides, epochs: Mapping[str, Any] | None = None) -> str:
    """Everything about the sides' answers to `task`; `epochs` are training curves by side."""
    model = next(iter(sides.values()))
    title = f"<h2>{escape(TITLES[task])}</h2>"
    if not model.get("n"):
        return f"{title}<p>Nothing to judge.</p>"
    things = f"{model['n']:,} judged, {model['patients']:,} patients"
    parts = [title, f'<div class="muted">{things}</div>', table_2(task.value, sides)]
    if task is Task.SEGMENTATION:
        rows = [
            (f"IoU {name}", *(number(figures["iou"][name]) for figures in sides.values()))
            for name in CLASSES[task]
        ]
        rows.append(("pixel accuracy", *(number(f["pixel_accuracy"]) for f in sides.values())))
        parts.append(table(("figure", *sides), rows))
        drawn = [_pixel_confusion(side, figures) for side, figures in sides.items()]
    else:
        parts.append(_per_class(task, sides))
        drawn = [
            *roc_plots(CLASSES[task], sides),
            reliability_plot(sides),
            *_decisions(task, sides),
        ]
        drawn += [
            matrix_plot(f["confusion"], CLASSES[task], CLASSES[task], title=f"Confusion: {side}")
            for side, f in sides.items()
        ]
    return "".join(parts) + plots([*_epochs(sides, epochs or {}), *drawn])


def table_2(subject: str, sides: Sides) -> str:
    """Table 2 with the sides' figures, then the published ones of the same kind of work."""
    there = published(subject)
    names = [
        name
        for name in COLUMNS
        if any(KEYS[name] in f for f in sides.values()) or any(name in p.figures for p in there)
    ]
    rows = [
        (side, "measured here", *(number(figures.get(KEYS[name])) for name in names))
        for side, figures in sides.items()
    ]
    rows += [
        (row.model, f"published: {row.source}", *(number(row.figures.get(n)) for n in names))
        for row in there
    ]
    tissue = sorted({row.data for row in there})
    return (
        "<p class='muted'>Means over classes; sensitivity is recall. Published figures are of "
        f"other tissue and truth ({escape('; '.join(tissue))}): beside, not against.</p>"
        + table(("model", "source", *names), rows)
    )


def _per_class(task: Task, sides: Sides) -> str:
    keys = ("precision", "recall", "specificity", "f1", "auc")
    rows = []
    for side, figures in sides.items():
        for name in CLASSES[task]:
            c = figures["per_class"][name]
            rows.append((f"{side}: {name}", str(c["n"]), *(number(c[k]) for k in keys)))
        means = (*(figures[f"macro_{k}"] for k in keys[:4]), figures["macro_auc"])
        rows.append((f"{side}: mean", str(figures["n"]), *map(number, means)))
    return table(("class", "n", *keys), rows)


def roc_plots(names: Sequence[str], sides: Sides) -> Iterator[str]:
    """One plot per class against the rest, all sides in each; before them all classes pooled."""
    if len(names) > 2:
        curves = {side: (f["roc_pooled"], f["micro_auc"]) for side, f in sides.items()}
        yield _joint_roc("ROC, all classes pooled", curves)
    # Binary task: one ROC curve.
    for name in names[1:] if len(names) == 2 else names:
        curves = {side: (f["roc"][name], f["per_class"][name]["auc"]) for side, f in sides.items()}
        if any(points for points, _ in curves.values()):
            yield _joint_roc(f"ROC, {name} against the rest", curves)


def _joint_roc(title: str, curves: Mapping[str, tuple[Any, float | None]]) -> str:
    lines = [
        Line(name=f"{side}, AUC {number(area)}", points=points, color=_color(k))
        for k, (side, (points, area)) in enumerate(curves.items())
    ]
    return line_plot(lines, x_label="1 - specificity", y_label="sensitivity", title=title)


def reliability_plot(sides: Sides) -> str:
    """Share correct by confidence, all sides in one plot."""
    lines = [Line(name="ideal", points=[(0, 0), (1, 1)], color="#9aa5b1", dashed=True)]
    for k, (side, figures) in enumerate(sides.items()):
        points = [(b["confidence"], b["accuracy"]) for b in figures["reliability"]]
        name = f"{side}, ECE {number(figures['ece'])}"
        lines.append(Line(name=name, points=points, color=_color(k), dots=True))
    return line_plot(lines, x_label="confidence", y_label="share correct", title="Reliability")


def _decisions(task: Task, sides: Sides) -> Iterator[str]:
    """Decision curves up to 0.30: of what a lab acts on, then of each stain class (Fig. 8)."""
    acted = "tumor" if task is Task.TUMOR else "2+ or 3+"
    yield _decision(f"Decision curve, {acted}", {s: f["decision_curve"] for s, f in sides.items()})
    if task is Task.TUMOR:
        return
    for name in CLASSES[task]:
        curves = {side: f["decision_curves"][name] for side, f in sides.items()}
        yield _decision(f"Decision curve, {name} against the rest", curves)


def _decision(title: str, curves: Mapping[str, Any]) -> str:
    first = next(iter(curves.values()))
    at = first["threshold"]
    every = {side: (c["model"], _color(k), False) for k, (side, c) in enumerate(curves.items())}
    every["treat all"] = (first["treat_all"], "#5d6670", True)
    every["treat none"] = (first["treat_none"], "#b3bcc6", True)
    lines = [
        Line(name=name, points=list(zip(at, values, strict=True)), color=color, dashed=dashed)
        for name, (values, color, dashed) in every.items()
    ]
    best = max(max(values) for values, _, _ in every.values())
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.35) if 3 * s >= best)
    return line_plot(
        lines,
        x_label="threshold probability",
        y_label="net benefit",
        x_range=(0, 0.3),
        y_range=(-step, 3 * step),
        x_steps=3,
        title=title,
    )


def _epochs(sides: Sides, curves: Mapping[str, Any]) -> Iterator[str]:
    """One plot per figure that the logs of the trainings have, such as mean IoU (Fig. 7)."""
    for figure in dict.fromkeys(curve["figure"] for curve in curves.values()):
        lines = [
            Line(name=side, points=points, color=_color(k), dots=len(points) < MOST_DOTS)
            for k, side in enumerate(sides)
            if curves.get(side, {}).get("figure") == figure
            for points in [curves[side]["points"]]
        ]
        words = figure.replace("_", " ").replace("iou", "IoU")
        last = max(point[0] for line in lines for point in line.points)
        yield line_plot(
            lines,
            x_label="epoch",
            y_label=f"{words}, validation",
            x_range=(0, last),
            title=f"{words[0].upper()}{words[1:]} per epoch",
        )


def _pixel_confusion(side: str, figures: Mapping[str, Any]) -> str:
    names = CLASSES[Task.SEGMENTATION]
    percent = [[100 * v for v in row] for row in figures["confusion_share"]]
    return matrix_plot(percent, names, names, title=f"Confusion, % of true pixels: {side}")


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]
