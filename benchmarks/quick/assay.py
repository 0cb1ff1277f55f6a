"""The assay *quick*: H&E and a stain QUICK, scored by a glance at the tiles.

Each reading notes the fingerprint of the slide's files before and after it was read, so that a
judge can tell whose bytes a result comes from. `SECONDS_VARIABLE` makes each reading take a while.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.coding import Code

from appliance.assays.alignment import alignment_facts
from appliance.assays.assay import (
    Assay,
    ObjectFacts,
    PageWords,
    ReportContent,
    StainFacts,
    StepOutputs,
)
from appliance.assays.registry import register_assay
from appliance.assays.stains import HE_STAIN
from appliance.domain import HE, Stain
from appliance.findings.findings import SCORED, Findings, Rasters
from appliance.findings.opinion import Opinion
from appliance.geometry import TILE_PX, TILE_UM
from appliance.readers.reader import Batch, TileInput, reader
from appliance.settings.settings import Settings
from appliance.slides.files import fingerprint
from appliance.slides.raster import RasterGrid

QUICK = Stain("QUICK")
SECONDS_VARIABLE = "TANDEM_QUICK_SECONDS"
"""Environment variable: seconds that each reading of a slide takes at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickReading:
    """`dark` float32 (rows, columns of the grid): share of dark px, NaN where not read.

    `files` are the fingerprints of the slide's files before and after the reading.
    """

    opinion: Opinion
    dark: NDArray[np.float32]
    files: tuple[str, str]

    @property
    def probability(self) -> NDArray[np.float32]:
        """The name under which tumor readings hold it; every tile that was read has tumor."""
        return np.where(np.isnan(self.dark), self.dark, np.float32(1.0))


class QuickSession:
    """Reading of one slide."""

    px = TILE_PX
    network = None

    def __init__(self, name: str, given: TileInput) -> None:
        self._name = name
        self._path = Path(given.slide.facts.path)
        self._before = fingerprint(self._path)
        self._until = time.monotonic() + float(os.environ.get(SECONDS_VARIABLE, "0"))
        self._dark = np.full(given.slide.grid.shape, np.nan, dtype=np.float32)

    def answer(self, pixels: NDArray[np.uint8]) -> list[float]:
        """Share of dark px, per tile."""
        return [float(share) for share in (pixels.min(axis=3) < 160).mean(axis=(1, 2))]

    def take(self, batch: Batch, answer: list[float]) -> None:
        """Keep the shares at their places."""
        for index, share in zip(batch.tiles, answer, strict=True):
            self._dark[index.row, index.column] = share

    def finish(self) -> QuickReading:
        """Return the reading."""
        time.sleep(max(0.0, self._until - time.monotonic()))
        seen = self._dark[~np.isnan(self._dark)]
        dark = float(seen.mean()) if len(seen) else 0.0
        opinion = Opinion(
            reader=self._name,
            version=1,
            about="tumor",
            weights=None,
            classes=("pale", "dark"),
            probabilities=(1 - dark, dark),
        )
        files = (self._before, fingerprint(self._path))
        return QuickReading(opinion=opinion, dark=self._dark, files=files)

    def close(self) -> None:
        """Do nothing: no file or connection is open."""


class _QuickReader:
    name = ""
    version = 1
    needs = "tiles"
    task = None

    def begin(self, given: TileInput) -> QuickSession:
        """Begin a slide."""
        return QuickSession(self.name, given)

    def save(self, reading: QuickReading, folder: Path) -> None:
        """Write ``dark.npy`` and ``quick.json``."""
        np.save(folder / "dark.npy", reading.dark)
        facts = {"opinion": reading.opinion.as_json(), "files": list(reading.files)}
        (folder / "quick.json").write_text(json.dumps(facts))

    def load(self, folder: Path) -> QuickReading:
        """Read what `save` wrote."""
        facts: dict[str, Any] = json.loads((folder / "quick.json").read_text())
        before, after = facts["files"]
        return QuickReading(
            opinion=Opinion.of_json(facts["opinion"]),
            dark=np.load(folder / "dark.npy", allow_pickle=False),
            files=(before, after),
        )


@reader
class QuickAnatomy(_QuickReader):
    """The H&E slide."""

    name = "quick-anatomy"
    stains = (HE,)


@reader
class QuickTarget(_QuickReader):
    """The slide of the stain QUICK."""

    name = "quick-target"
    stains = (QUICK,)


def decide(outputs: StepOutputs, settings: Settings) -> Findings:
    """Return findings whose rule names the fingerprints that were read: H&E's two, the target's."""
    anatomy = outputs.reading("quick-anatomy", QuickReading)
    target = outputs.reading("quick-target", QuickReading)
    scored = int((outputs.read == SCORED).sum())
    dark = target.opinion.probabilities[1]
    return Findings(
        assay="quick",
        accession=outputs.identity.accession,
        block=outputs.identity.block,
        he=outputs.anatomy,
        ihc=outputs.target,
        alignment=alignment_facts(outputs.alignment),
        mapping=outputs.alignment.mapping,
        guideline="quick",
        guideline_version="1",
        score=("high" if dark > 0.5 else "low") if scored else None,
        estimated=True,
        percent={"pale": 100 * (1 - dark), "dark": 100 * dark},
        tumor_area_mm2=scored * TILE_UM**2 / 1e6,
        unscored_tumor_area_mm2=0.0,
        review=(),
        opinions=tuple(reading.opinion for reading in outputs.readings.values()),
        tiles=(),
        rasters=Rasters(
            he_tumor=RasterGrid.of(outputs.anatomy, TILE_UM).expand(~np.isnan(anatomy.dark)),
            he_mpp=RasterGrid.of(outputs.anatomy, TILE_UM).mpp,
            ihc_classes=None,
            ihc_mpp=1.0,
            ihc_read=outputs.read,
            he_probability=anatomy.probability,
        ),
        rule=" ".join((*anatomy.files, *target.files)),
    )


def _corrected(findings: Findings, score: str) -> Findings:
    return replace(findings, score=score, review=(), estimated=False)


def _report(findings: Findings) -> ReportContent:
    return ReportContent(
        score_name=Code("score", "99QUICK", "Quick score"),
        score=Code(str(findings.score), "99QUICK", f"Quick {findings.score}"),
        measurements=[],
    )


QUICK_ASSAY = register_assay(
    Assay(
        name="quick",
        title="QUICK",
        anatomy=HE_STAIN,
        target=StainFacts(
            code=QUICK, label="Quick stain", words=("QUICK",), reading="glance at QUICK"
        ),
        scores=("low", "high"),
        classes=(),
        readers=("quick-anatomy", "quick-target"),
        tumor_reader="quick-anatomy",
        decide=decide,
        review=lambda *_: (),
        corrected=_corrected,
        objects=ObjectFacts(
            report=_report,
            page=PageWords(
                score_label="Quick score",
                target_caption="Quick stain",
                scheme=lambda _: "Quick",
                estimate="A stand-in.",
                class_rows=lambda _: [("Class", "Share")],
                measure_rows=lambda _: [("Measured", "")],
            ),
        ),
    )
)
