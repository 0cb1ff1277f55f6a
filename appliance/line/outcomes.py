"""Outcomes of the steps: small values that go from one step to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.assay import Declared
from appliance.domain import SlideFacts
from appliance.findings.opinion import Opinion
from appliance.intake.identity.evidence import Verdict
from appliance.intake.patients import Patient
from appliance.ledger.hints import Hint
from appliance.settings.settings import Settings
from appliance.slides.picture import SlidePicture


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Duration of a step; `reused` when its artifact was there already.

    `key` is that of the artifact, as `ArtifactKey` is written; empty where no single one is it.
    """

    step: str
    seconds: float
    reused: bool
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifiedSlide:
    """Outcome of *identify*: facts, identity, patient, and words of the sidecar for later steps.

    `scanned_at` is the time of the scan by the header (`slides.scan_time`), 0.0 where none is told,
    `UNKNOWN` where its day is not certain.
    `order_note` and `header_notes` are for the slide's timeline, `order_problems` for that of the
    first slide that has them.
    """

    facts: SlideFacts
    verdict: Verdict
    organ: str
    specimen: str
    patient: Patient = field(default_factory=Patient)
    scanned_at: float = 0.0
    order_note: str = ""
    order_problems: tuple[str, ...] = ()
    header_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedSlide:
    """Outcome of *inspect*; a slide without tissue is inspected too, so that people can look."""

    key: str
    times: tuple[StepTime, ...]
    tissue_mm2: float
    picture: SlidePicture = field(default_factory=SlidePicture)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlide:
    """Slide as the steps of a case need it: all that was learnt at identify, and its overview.

    `organ` and `specimen` are the sidecar's words, empty where it does not say. `is_kept`: a person
    said that the picture is that of the stain. `interim` is the opinion that was given on the
    slide before (`Opinion.as_json` as text), empty for none.
    """

    facts: SlideFacts
    inspect_key: str
    organ: str = ""
    specimen: str = ""
    is_kept: bool = False
    interim: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Key of a step's artifact, and the times of the work for it."""

    key: str
    times: tuple[StepTime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRead:
    """Outcome of *read*: times of the work, hints on the slide, and second readers' opinions."""

    times: tuple[StepTime, ...]
    hints: tuple[Hint, ...] = ()
    opinions: tuple[Opinion, ...] = ()


def artifact_folder(key: str, settings: Settings) -> Path:
    """Folder of the artifact that an outcome names."""
    return ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(key))


def declared_by(anatomy: ReadSlide, target: ReadSlide) -> Declared:
    """Words of both sidecars, target first."""
    return Declared(
        organ=(target.organ, anatomy.organ), specimen=(target.specimen, anatomy.specimen)
    )


@contextmanager
def timed(
    step: str, key: ArtifactKey, store: ArtifactStore
) -> Iterator[tuple[list[StepTime], bool]]:
    """Measure a step that makes an artifact; yield a list, and whether the artifact is there.

    The list holds the step's time when the block has ended.

    Raises
    ------
    ArtifactDamagedError
        If the artifact is there and is not what was written.
    """
    times: list[StepTime] = []
    reused = store.has(key)
    start = time.perf_counter()
    yield times, reused
    seconds = time.perf_counter() - start
    times.append(StepTime(step=step, seconds=seconds, reused=reused, key=str(key)))
