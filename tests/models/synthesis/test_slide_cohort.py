"""Drawn cohorts of slides: shares, readers' noise, ceiling, and stain that follows the truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.deconvolution import DAB, EOSIN, HEMATOXYLIN, unmix
from models.errors import SynthesisError
from models.evaluation.slide_ceiling import ceiling
from models.slide_level.cohort import read_cohort
from models.slide_level.foreground import foreground, section_picture
from models.slide_level.tasks import SlideTask, class_of
from models.synthesis.slide_cohort import draw_slides, label_chances, score_chances
from models.synthesis.slide_files import write_slides
from models.synthesis.slide_overview import draw_slide

DRAWS = draw_slides(5)
PX = 300


def amount(pixels: np.ndarray, where: np.ndarray) -> float:
    """Mean DAB of some px, by color deconvolution."""
    density = -np.log10(np.maximum(pixels, 1).astype(np.float32) / 243)
    stains = unmix(density, np.array([HEMATOXYLIN, EOSIN, DAB], dtype=np.float32))
    return float(stains[..., 2][where].mean())


def test_truths_have_the_papers_numbers() -> None:
    assert Counter(d.truth.her2 for d in DRAWS) == {"0": 125, "1+": 142, "2+": 118, "3+": 115}
    assert Counter(d.truth.ish for d in DRAWS) == {"-": 96, "+": 22, None: 382}
    assert Counter(d.truth.er for d in DRAWS) == {"-": 145, "+": 240, None: 115}
    assert Counter(d.truth.pr for d in DRAWS) == {"-": 198, "+": 189, None: 113}
    assert draw_slides(5) == DRAWS and draw_slides(6) != DRAWS
    with pytest.raises(SynthesisError, match="10 or more"):
        draw_slides(1, 9)


def test_readers_agree_as_often_as_the_paper_quotes() -> None:
    """Two readers: the sum of the squared chances of each score."""
    agreement = np.mean([(score_chances(d) ** 2).sum() for d in DRAWS])
    assert 0.69 < agreement < 0.75
    wrong = Counter((d.truth.her2, d.label.her2) for d in DRAWS if d.truth.her2 != d.label.her2)
    assert wrong["0", "1+"] + wrong["1+", "0"] > 0.4 * wrong.total()


def test_chances_of_a_label_are_those_of_its_draws() -> None:
    """Calibrated: where the chance of a class is p, it is drawn in a share p of the slides."""
    for task in SlideTask:
        pairs = [(class_of(d.label, task), label_chances(d, task)) for d in DRAWS]
        known = [(k, chances) for k, chances in pairs if k is not None and chances is not None]
        drawn = np.bincount([k for k, _ in known]) / len(known)
        assert drawn == pytest.approx(np.mean([c for _, c in known], axis=0), abs=0.05)


def test_the_ceiling_is_below_one_and_above_a_reader_with_less() -> None:
    found = {task: ceiling(DRAWS, task) for task in SlideTask}
    assert 0.92 < found[SlideTask.FOUR_WAY]["auc"] < found[SlideTask.BINARY]["auc"] < 1
    sure = [replace(d, label=d.truth) for d in DRAWS]
    assert ceiling(sure, SlideTask.FOUR_WAY)["accuracy"] > found[SlideTask.FOUR_WAY]["accuracy"]


def test_stain_follows_the_composition_and_the_run() -> None:
    draw = replace(DRAWS[0], artefacts=(), scanner="neutral")
    grades = [tuple(float(k == g) for k in range(4)) for g in range(4)]
    drawn = [draw_slide(replace(draw, mix=mix), px=PX) for mix in grades]
    dab = [amount(one.pixels, one.tumor) for one in drawn]
    assert dab[3] > 1.3 * dab[2] and dab[2] > 2 * dab[1] and dab[1] > 1.3 * dab[0]
    assert np.array_equal(drawn[0].tumor, drawn[3].tumor)
    other = draw_slide(replace(draw, run=4, scanner="crisp"), px=PX)
    assert np.abs(other.pixels.mean((0, 1)) - drawn[0].pixels.mean((0, 1))).max() > 1
    receptor = [draw_slide(replace(draw, er_percent=p), "ER", px=PX) for p in (0.0, 90.0)]
    assert amount(receptor[1].pixels, receptor[1].tumor) > 0.1 + amount(
        receptor[0].pixels, receptor[0].tumor
    )


@pytest.mark.parametrize("name", ["pen", "fold", "bubble", "control"])
def test_each_artefact_changes_the_picture(name: str) -> None:
    pairs = [
        [draw_slide(replace(draw, artefacts=given), px=PX) for given in ((), (name,))]
        for draw in DRAWS[:5]
    ]
    # A narrow slide has no room for control tissue.
    plain, marked = max(pairs, key=lambda pair: (pair[0].pixels != pair[1].pixels).sum())
    assert (np.abs(plain.pixels.astype(int) - marked.pixels).max(axis=2) > 25).mean() > 0.002
    assert (marked.tissue.sum() > plain.tissue.sum()) == (name == "control")


def test_foreground_is_the_tissue_and_the_section_fills_its_picture() -> None:
    overlap = []
    for draw in DRAWS[10:16]:
        made = draw_slide(replace(draw, artefacts=()), px=2 * PX)
        found = foreground(made.pixels)
        overlap.append((found & made.tissue).sum() / (found | made.tissue).sum())
        picture = section_picture(made.pixels, found, 96)
        assert picture.shape == (96, 96, 3) and (picture[0] == 255).all()
        covered = (picture.min(axis=2) < 250).any(axis=0).sum()
        assert max(covered, (picture.min(axis=2) < 250).any(axis=1).sum()) > 70
    assert np.mean(overlap) > 0.8
    empty = np.full((60, 80, 3), 244, dtype=np.uint8)
    assert not foreground(empty).any()
    assert section_picture(empty, foreground(empty), 32).min() >= 254


def test_a_cohort_on_disk_goes_on_and_is_no_other_one(tmp_path: Path) -> None:
    draws = draw_slides(1, 10)[:3]
    told: list[int] = []
    slides = write_slides(tmp_path, draws, lambda _, n, __: told.append(n), stains=("HER2", "ER"))
    assert read_cohort(tmp_path) == slides
    assert {s.label.her2 for s in slides if s.slide.endswith("ER")} <= {None}
    first = slides[0].overview.stat()
    write_slides(tmp_path, draws, lambda *_: None, stains=("HER2", "ER"))
    assert slides[0].overview.stat().st_mtime_ns == first.st_mtime_ns
    with pytest.raises(SynthesisError, match="another drawn cohort"):
        write_slides(tmp_path, draw_slides(2, 10)[:3], lambda *_: None, stains=("HER2",))
