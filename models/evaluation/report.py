"""Report of an evaluation: one self-contained HTML file, made from the JSON result."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from models.errors import DataSetError
from models.evaluation.svg import COLORS, Line, line_plot, matrix_plot
from models.spec import CLASSES, Task

SIDES = {"model": "Tandem", "baseline": "baseline"}
TITLES = {
    Task.TUMOR: "C · tumor on H&E tiles",
    Task.INTENSITY: "L · stain intensity of IHC tiles",
    Task.SEGMENTATION: "M · HER2 class of IHC pixels",
}
SCORES = ("0", "1+", "2+", "3+")
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:1120px;margin:0 auto;padding:28px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:36px 0 8px;border-bottom:1px solid #dfe4ea}
.notice{background:#fff4d6;border-left:4px solid #d9a400;padding:8px 14px;margin:14px 0}
.muted{color:#5d6670}.plots{display:flex;flex-wrap:wrap;gap:18px}
figure{margin:0;background:#fafbfc;border:1px solid #e6eaee;border-radius:8px;padding:12px}
figcaption{font-weight:600;margin-bottom:4px}svg text{font:11px system-ui,sans-serif;fill:#465362}
.key span{margin-right:14px;font-size:12px}.key i{display:inline-block;width:20px;margin-right:5px;
vertical-align:middle}
table{border-collapse:collapse;margin:8px 0}th,td{padding:4px 12px;text-align:right;
border-bottom:1px solid #e6eaee;font-variant-numeric:tabular-nums}th{background:#f3f5f8}
th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}
.better{font-weight:650}
"""


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write `html_report` of a result.

    Raises
    ------
    DataSetError
        If `path` cannot be written.
    """
    try:
        path.write_text(html_report(result), encoding="utf-8")
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}. Choose another file for --html.") from err


def html_report(result: dict[str, Any]) -> str:
    """Return the page of a result of ``tandem evaluate`` or ``tandem evaluate tiles``."""
    synthetic = result["data"] == "synthetic"
    facts = ("task", "seed", "pairs", "mpp", "images", "guideline", "generator_version")
    said = ", ".join(f"{name} {result[name]}" for name in facts if name in result)
    kind = "Synthetic figures: the tissue was made by Tandem itself. " if synthetic else ""
    body = [
        "<h1>Tandem: evaluation</h1>",
        f'<div class="muted">{escape(said)}</div>',
        f'<div class="notice">{kind}{escape(result["notice"])}</div>',
        "<h2>Quoted figures</h2>",
        _quoted(result),
    ]
    details = result["details"]
    if "task" in result:
        body.append(_section(Task(result["task"]), details))
    else:
        body += [
            _slides({side: details[side]["slide"] for side in SIDES}),
            _subgroups(result["subgroups"]),
            *(_section(task, {s: details[s][task.value] for s in SIDES}) for task in Task),
            _rois(result["rois"]),
            _cases(result["cases"]),
        ]
    if result.get("predictions"):
        body.append(_predictions(result["predictions"]))
    body.append(_weights(result["weights"]))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tandem: evaluation'
        f"</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _quoted(result: dict[str, Any]) -> str:
    rows = []
    for name in (key for key in result if "." in key and not key.startswith("baseline.")):
        model, other = result[name], result.get(f"baseline.{name}")
        interval = _interval(result, name)
        rows.append((name, _number(model), interval, _number(other)))
    return _table(("figure", "Tandem", "95 % interval, by patient", "baseline"), rows)


_INTERVALS = {
    "accuracy": "accuracy", "auc": "macro_auc", "specificity": "macro_specificity",
    "mean_iou": "mean_iou", "kappa_quadratic": "kappa_quadratic",
}  # fmt: skip


def _interval(result: dict[str, Any], name: str) -> str:
    group, _, figure = name.partition(".")
    details = result["details"]["model"]
    if "task" not in result:
        details = details.get(group, {})
    low, high = details.get("interval", {}).get(_INTERVALS.get(figure, ""), (None, None))
    return "" if low is None else f"{low:.3f} to {high:.3f}"


def _section(task: Task, sides: dict[str, Any]) -> str:
    model = sides["model"]
    title = f"<h2>{escape(TITLES[task])}</h2>"
    if not model.get("n"):
        return f"{title}<p>Nothing to judge.</p>"
    things = f"{model['n']:,} judged, {model['patients']:,} patients"
    parts = [title, f'<div class="muted">{things}</div>']
    if task is Task.SEGMENTATION:
        rows = [
            (f"IoU {name}", *(_number(sides[s]["iou"][name]) for s in SIDES))
            for name in CLASSES[task]
        ]
        rows.append(("pixel accuracy", *(_number(sides[s]["pixel_accuracy"]) for s in SIDES)))
        parts.append(_table(("figure", *SIDES.values()), rows))
        plots = [
            matrix_plot(
                [[100 * v for v in row] for row in sides[s]["confusion_share"]],
                CLASSES[task],
                CLASSES[task],
                title=f"Confusion, % of true pixels: {SIDES[s]}",
            )
            for s in SIDES
        ]
        return "".join(parts) + _plots(plots)
    parts.append(_per_class(task, sides))
    plots = [_roc(sides), _reliability(sides), _decision(sides)]
    plots += [
        matrix_plot(
            sides[s]["confusion"], CLASSES[task], CLASSES[task], title=f"Confusion: {SIDES[s]}"
        )
        for s in SIDES
    ]
    return "".join(parts) + _plots(plots)


def _per_class(task: Task, sides: dict[str, Any]) -> str:
    keys = ("precision", "recall", "specificity", "f1", "auc")
    rows = []
    for side, word in SIDES.items():
        for name in CLASSES[task]:
            c = sides[side]["per_class"][name]
            rows.append((f"{word}: {name}", str(c["n"]), *(_number(c[k]) for k in keys)))
        means = (*(sides[side][f"macro_{k}"] for k in keys[:4]), sides[side]["macro_auc"])
        rows.append((f"{word}: mean", str(sides[side]["n"]), *map(_number, means)))
    return _table(("class", "n", *keys), rows)


def _roc(sides: dict[str, Any]) -> str:
    lines = []
    shown = [k for k, v in sides["model"]["roc"].items() if v]
    # Binary task: one ROC curve.
    for number, name in enumerate(shown[-1:] if len(sides["model"]["roc"]) == 2 else shown):
        color = COLORS[number]
        lines.append(Line(name=name, points=sides["model"]["roc"][name], color=color))
        other = sides["baseline"]["roc"][name]
        lines.append(Line(name=f"{name}, baseline", points=other, color=color, dashed=True))
    return line_plot(
        lines, x_label="1 - specificity", y_label="sensitivity", title="ROC, one against the rest"
    )


def _reliability(sides: dict[str, Any]) -> str:
    lines = [Line(name="ideal", points=[(0, 0), (1, 1)], color="#9aa5b1", dashed=True)]
    for number, side in enumerate(SIDES):
        points = [(b["confidence"], b["accuracy"]) for b in sides[side]["reliability"]]
        name = f"{SIDES[side]}, ECE {_number(sides[side]['ece'])}"
        lines.append(Line(name=name, points=points, color=COLORS[number], dots=True))
    return line_plot(lines, x_label="confidence", y_label="share correct", title="Reliability")


def _decision(sides: dict[str, Any]) -> str:
    curve = sides["model"]["decision_curve"]
    at = curve["threshold"]
    every = {
        "Tandem": (curve["model"], COLORS[0], False),
        "baseline": (sides["baseline"]["decision_curve"]["model"], COLORS[1], False),
        "treat all": (curve["treat_all"], "#5d6670", True),
        "treat none": (curve["treat_none"], "#b3bcc6", True),
    }
    lines = [
        Line(name=name, points=list(zip(at, values, strict=True)), color=color, dashed=dashed)
        for name, (values, color, dashed) in every.items()
    ]
    best = max(*curve["model"], *curve["treat_all"])
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.35) if 3 * s >= best)
    return line_plot(
        lines,
        x_label="risk threshold",
        y_label="net benefit",
        x_range=(0, 0.3),
        y_range=(-step, 3 * step),
        x_steps=3,
        title="Decision curve",
    )


def _slides(sides: dict[str, Any]) -> str:
    model = sides["model"]
    columns = (*SCORES, "none")
    plots = [
        matrix_plot(sides[s]["confusion"], SCORES, columns, title=f"Slide score: {SIDES[s]}")
        for s in SIDES
        if "confusion" in sides[s]
    ]
    said = f"{model['exact']} of {model['n']} exact, {model['within_one']} within one class"
    return f'<h2>Slide scores</h2><div class="muted">{said}</div>' + _plots(plots)


def _subgroups(rows: list[dict[str, Any]]) -> str:
    figures = {
        "n": "pairs",
        "exact": "exact",
        "within_one": "within one class",
        "reviewed": "sent to review",
        "confidently_wrong": "wrong without review",
        "tumor.accuracy": "C accuracy",
        "intensity.accuracy": "L accuracy",
        "segmentation.mean_iou": "M mean IoU",
    }
    cells = []
    for row in rows:
        value = "unknown" if row["value"] is None else str(row["value"])
        cells.append((f"{row['by']} {value}", *(_number(row[key]) for key in figures)))
    return "<h2>Subgroups</h2>" + _table(("subgroup", *figures.values()), cells)


def _rois(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = ("tumor", "normal", *CLASSES[Task.INTENSITY])
    columns = ("region", *(f"{side} {name}" for name in names for side in ("R", "P")))
    cells = [
        (row["roi"], *(str(row[side][name]) for name in names for side in ("real", "predicted")))
        for row in rows
    ]
    return (
        "<h2>Regions of interest</h2><p class='muted'>Tiles per region (573 µm wide), real (R) and "
        "predicted (P), as Table 3 of arXiv 2512.22335: H&amp;E tiles with and without tumor, "
        "scored IHC tiles by intensity.</p>" + _table(columns, cells)
    )


def _cases(rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        # A failed row has a reason and no figures.
        notes = row.get("problem") or ", ".join(row.get("review", []))
        score, other = (row.get(key) or "none" for key in ("score", "baseline"))
        cells.append((row["case"], row["truth"], score, other, notes))
    return "<h2>Cases</h2>" + _table(("case", "truth", "Tandem", "baseline", "review"), cells)


def _predictions(rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        truth = row.get("truth", row.get("tumor_share", ""))
        mean = _number(row["mean_class"]) if "mean_class" in row else ""
        said = (row["predicted"], row["baseline"]["predicted"])
        words = [_shares(word) if isinstance(word, dict) else str(word) for word in (truth, *said)]
        cells.append((row["image"], str(row["tiles"]), *words, mean))
    columns = ("image", "tiles", "truth", "Tandem", "baseline", "mean class")
    return "<h2>Images</h2>" + _table(columns, cells)


def _weights(weights: dict[str, Any]) -> str:
    every = {"": weights} if "sha256" in weights else weights
    cells = [(f"{w['name']} {w['version']}", w["sha256"][:16]) for w in every.values()]
    return "<h2>Weights</h2>" + _table(("name", "SHA-256"), cells)


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())


def _plots(plots: Sequence[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
