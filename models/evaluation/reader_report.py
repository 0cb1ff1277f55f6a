"""Report of an evaluation of slide-level systems: tables as arXiv 2503.22069 has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from models.evaluation.html import number, page, plots, table
from models.evaluation.published import published
from models.evaluation.svg import matrix_plot
from models.evaluation.task_section import reliability_plot, roc_plots

COLUMNS = ("AUC (%)", "F1 (%)", "accuracy (%)")
_MOST_MISREAD = 60
"""Slides in a table of misread ones."""


def table_rows(task: str, result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows (system, AUC, F1, accuracy) in percent: measured, on shifted slides, ceiling."""
    for name, found in result["systems"].items():
        yield (name, *_cells(found))
        if "shifted" in found:
            yield (f"{name}, other scanner and run", *_cells(found["shifted"]))
    ceiling = result.get("ceiling")
    if ceiling and ceiling["n"]:
        words = "ceiling: the truth against these labels"
        yield (words, *(f"{100 * ceiling[k]:.2f}" for k in ("auc", "f1", "accuracy")))


def published_rows(task: str) -> Iterator[tuple[str, ...]]:
    """Rows of the same columns as the paper prints them, of other tissue."""
    for subject in ("slide", f"slide-{task}") if task == "4way" else (f"slide-{task}",):
        for row in published(subject):
            figures = (row.figures.get(k) for k in ("auc", "f1", "accuracy"))
            cells = ("-" if v is None else f"{100 * v:.2f}" for v in figures)
            yield (f"published: {row.model} ({row.source})", *cells)


def reader_report(result: Mapping[str, Any]) -> str:
    """Return the page of a result of ``tandem evaluate reader``."""
    synthetic = result["data"] == "synthetic"
    kind = "Synthetic figures: the slides were drawn by Tandem itself. " if synthetic else ""
    labels = "Labels were shuffled. " if result["shuffled"] else ""
    said = f"{result['patients']} patients, {result['slides']} slides"
    body = [
        "<h1>Tandem: slide-level readers</h1>",
        f'<div class="muted">{escape(said)}, seed {result["seed"]}</div>',
        f'<div class="notice">{kind}{labels}{escape(result["notice"])}</div>',
        "<p class='muted'>Mean ± deviation over folds, of test slides; F1 and AUC are means over "
        "classes. Published figures are of other tissue: beside, not against.</p>",
    ]
    for task, found in result["tasks"].items():
        body += _section(task, found)
    return page(body)


def _section(task: str, found: Mapping[str, Any]) -> Iterator[str]:
    names = found["classes"]
    sides = {name: system["details"] for name, system in found["systems"].items()}
    yield f"<h2>{escape(task)}, {found['folds']} folds</h2>"
    yield table(("system", *COLUMNS), [*table_rows(task, found), *published_rows(task)])
    per_class = [
        (name, *(number(d["per_class"][k]["f1"]) for k in names), number(d["ece"]))
        for name, d in sides.items()
    ]
    yield table(("system", *(f"F1 {k}" for k in names), "calibration error"), per_class)
    yield plots(
        [
            *roc_plots(names, sides),
            reliability_plot(sides),
            *(matrix_plot(d["confusion"], names, names, title=name) for name, d in sides.items()),
        ]
    )
    for name, system in found["systems"].items():
        misread = system["misread"]
        rows = [
            (m["slide"], m["label"], m["true"] or "-", m["found"], number(m["probability"]))
            for m in sorted(misread, key=lambda m: -m["probability"])[:_MOST_MISREAD]
        ]
        yield f"<h3>{escape(name)}: misread, {len(misread)}, the surest first</h3>"
        yield table(("slide", "label", "truth", "found", "probability"), rows)


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    spreads = (found[k] for k in ("auc", "f1", "accuracy"))
    return tuple(
        "-" if s["mean"] is None else f"{100 * s['mean']:.2f} ± {100 * s['deviation']:.2f}"
        for s in spreads
    )
