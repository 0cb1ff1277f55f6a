"""Report of an evaluation: one self-contained HTML file, made from the JSON result."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from models.evaluation.html import number, page, plots, table, write_page
from models.evaluation.published import TABLE_3, published_rois
from models.evaluation.sides import MODEL, quoted, quoted_names, titles_of
from models.evaluation.svg import matrix_plot
from models.evaluation.task_section import section, table_2
from models.spec import CLASSES, Task

SCORES = ("0", "1+", "2+", "3+")


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write `html_report` of a result.

    Raises
    ------
    DataSetError
        If `path` cannot be written.
    """
    write_page(html_report(result), path)


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
    words, details = titles_of(result), result["details"]
    if "task" in result:
        epochs = {words[side]: curve for side, curve in result.get("epochs", {}).items()}
        sides = {words[side]: figures for side, figures in details.items()}
        body.append(section(Task(result["task"]), sides, epochs))
    else:
        body += [
            _slides({words[side]: figures["slide"] for side, figures in details.items()}),
            _subgroups(result["subgroups"]),
            *(
                section(task, {words[s]: f[task.value] for s, f in details.items()})
                for task in Task
            ),
            _rois(result["rois"]),
            _cases(result["cases"]),
        ]
    if result.get("predictions"):
        body.append(_predictions(result["predictions"], words))
    body.append(_weights(result["weights"]))
    return page(body)


def _quoted(result: dict[str, Any]) -> str:
    words = titles_of(result)
    rows = [
        (
            name,
            *(number(quoted(result, side, name)) + _interval(result, side, name) for side in words),
        )
        for name in quoted_names(result)
    ]
    return "<p class='muted'>In brackets: 95 % interval, by patient.</p>" + table(
        ("figure", *words.values()), rows
    )


_INTERVALS = {name: name for name in ("accuracy", "mean_iou", "kappa_quadratic")} | {
    name: f"macro_{name}" for name in ("precision", "recall", "f1", "auc", "specificity")
}


def _interval(result: dict[str, Any], side: str, name: str) -> str:
    group, _, figure = name.partition(".")
    details = result["details"][side]
    if "task" not in result:
        details = details.get(group, {})
    low, high = details.get("interval", {}).get(_INTERVALS.get(figure, ""), (None, None))
    return "" if low is None else f" ({low:.3f} to {high:.3f})"


def _slides(sides: dict[str, Any]) -> str:
    model = next(iter(sides.values()))
    columns = (*SCORES, "none")
    matrices = [
        matrix_plot(figures["confusion"], SCORES, columns, title=f"Slide score: {side}")
        for side, figures in sides.items()
        if "confusion" in figures
    ]
    said = f"{model['exact']} of {model['n']} exact, {model['within_one']} within one class"
    return (
        f'<h2>Slide scores</h2><div class="muted">{said}</div>'
        + table_2("slide", sides)
        + plots(matrices)
    )


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
        cells.append((f"{row['by']} {value}", *(number(row[key]) for key in figures)))
    return "<h2>Subgroups</h2>" + table(("subgroup", *figures.values()), cells)


def _rois(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = ("tumor", "normal", *CLASSES[Task.INTENSITY])
    columns = ("region", *(f"{side} {name}" for name in names for side in ("R", "P")))
    named = [(row["roi"], row) for row in rows]
    named += [(f"published: {row['roi']}", row) for row in published_rois()]
    cells = [
        (name, *(str(row[side][each]) for each in names for side in ("real", "predicted")))
        for name, row in named
    ]
    return (
        "<h2>Regions of interest</h2><p class='muted'>Tiles per region of 12 x 12 (1.7 mm wide), "
        f"real (R) and predicted (P), as {TABLE_3}: H&amp;E tiles with and without tumor, scored "
        "IHC tiles by intensity. Published rows are as printed, of other tissue; they count all "
        "144 tiles of a region, the others count its tissue alone.</p>" + table(columns, cells)
    )


def _cases(rows: list[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        # A failed row has a reason and no figures.
        notes = row.get("problem") or ", ".join(row.get("review", []))
        score, other = (row.get(key) or "none" for key in ("score", "baseline"))
        cells.append((row["case"], row["truth"], score, other, notes))
    return "<h2>Cases</h2>" + table(("case", "truth", "Tandem", "baseline", "review"), cells)


def _predictions(rows: list[dict[str, Any]], words: Mapping[str, str]) -> str:
    further = [side for side in words if side != MODEL]
    cells = []
    for row in rows:
        truth = row.get("truth", row.get("tumor_share", ""))
        mean = number(row["mean_class"]) if "mean_class" in row else ""
        said = (row["predicted"], *(row[side]["predicted"] for side in further))
        shown = [_shares(word) if isinstance(word, dict) else str(word) for word in (truth, *said)]
        cells.append((row["image"], str(row["tiles"]), *shown, mean))
    columns = ("image", "tiles", "truth", *words.values(), "mean class")
    return "<h2>Images</h2>" + table(columns, cells)


def _weights(weights: dict[str, Any]) -> str:
    every = {"": weights} if "sha256" in weights else weights
    cells = [(f"{w['name']} {w['version']}", w["sha256"][:16]) for w in every.values()]
    return "<h2>Weights</h2>" + table(("name", "SHA-256"), cells)


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
