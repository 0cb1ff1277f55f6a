"""Identity of a slide by all of its sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.domain import Identity, Stain
from appliance.errors import SlideError
from appliance.intake.identity.evidence import Claim, Verdict, weigh
from appliance.intake.identity.sources import NameSources
from appliance.settings.identify import Identify, SourceName


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Accession, block and stain as a person or a sidecar states them; empty: unsaid."""

    accession: str = ""
    block: str = ""
    stain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known of a slide beside its name.

    `properties` are OpenSlide's, `labels` the texts of barcodes on the picture of its label. `said`
    is the word of a person.
    """

    properties: Mapping[str, str]
    labels: Iterable[str] = ()
    sidecar: Told = Told()
    said: Told = Told()


NO_EVIDENCE = Evidence(properties={})


class Identifier:
    """Identification with the words and the settings of one site."""

    def __init__(self, words: Mapping[str, Iterable[str]], settings: Identify) -> None:
        self._settings = settings
        self._sources = NameSources({k: tuple(v) for k, v in words.items()}, settings)

    def verdict(self, path: Path, evidence: Evidence = NO_EVIDENCE) -> Verdict:
        """Return the identity of a slide by its evidence, or by its name alone."""
        sources, properties = self._sources, evidence.properties
        words: tuple[tuple[SourceName, Told], ...] = (
            ("person", evidence.said),
            ("sidecar", evidence.sidecar),
        )
        claims: list[Claim] = [
            sources.of_words(source, told.accession, told.block, told.stain)
            for source, told in words
            if told != Told()
        ]
        claims += sources.of_header(properties)
        claims += sources.of_barcodes(properties)
        claims += sources.of_labels(evidence.labels)
        claims += sources.of_path(path)
        asked = [
            claim
            for claim in claims
            if claim.source in ("person", "sidecar") or self._settings.weight(claim.source) > 0
        ]
        return weigh(asked, self._settings)


def require_identity(verdict: Verdict) -> Identity:
    """Return the identity of an identified slide.

    Raises
    ------
    SlideError
        If it is not identified: NO_ACCESSION, NO_BLOCK, UNKNOWN_STAIN or IDENTITY_CONFLICT.
    """
    if verdict.reason is not None:
        raise SlideError(verdict.reason, verdict.detail)
    return Identity(accession=verdict.accession, block=verdict.block, stain=Stain(verdict.stain))


def evidence_json(verdict: Verdict) -> list[dict[str, Any]]:
    """Return what each source says, ready for JSON. PHI."""
    return [
        {
            "source": claim.source,
            "text": claim.text,
            "accession": claim.accession,
            "block": claim.block,
            "level": claim.level,
            "part": claim.part,
            "stain": claim.stain,
            "doubts": [asdict(doubt)["text"] for doubt in claim.doubts],
        }
        for claim in verdict.claims
    ]
