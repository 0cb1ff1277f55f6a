"""Description of a case for the page of the deep zoom, as JSON."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from typing import Any

from appliance.domain import SlideFacts
from appliance.ledger.blocks import pairing_of
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseRow, SlideRow, id_of
from appliance.registration.mapping import LATTICE_UM, SlideMapping
from dashboard.assay_facts import slide_labels
from dashboard.zoom.overlay_tiles import Overlays, regions
from dashboard.zoom.slide_tiles import TILE_PX, highest_level

WHATS = ("he", "ihc")
"""Anatomy slide and target slide, as findings name them."""


def slides_of(tx: Queries, row: CaseRow, overlays: Overlays) -> dict[str, SlideRow]:
    """Return the rows of the two slides that the findings of a case are of, where there are such.

    A slide that was replaced since is not taken for the one that was scored.
    """
    there = tx.slides_of_block(row.accession, row.block)
    stains = pairing_of(row).stains
    current = tx.current_slides(row.accession, row.block, stains).values()
    found = {}
    for what in WHATS:
        facts: SlideFacts = getattr(overlays.findings, what)
        same = [each for each in (*there, *current) if each.fingerprint == facts.fingerprint]
        if same and facts.fingerprint:
            found[what] = same[-1]
    return found


def case_json(case_id: int, overlays: Overlays, slides: dict[str, SlideRow]) -> dict[str, Any]:
    """Return the case for the page; addresses are relative to ``/zoom/<case>``."""
    findings = overlays.findings
    labels = dict(zip(WHATS, slide_labels(findings.assay), strict=True))
    return {
        "case": case_id,
        "slides": {
            what: _slide_json(getattr(findings, what), labels[what], slides.get(what), what)
            | {"overlay": _overlay_json(overlays, what)}
            for what in WHATS
        },
        "layers": [asdict(layer) for layer in overlays.layers()],
        "regions": regions(findings),
        "mapping": mapping_json(findings.mapping),
    }


def _slide_json(facts: SlideFacts, label: str, row: SlideRow | None, what: str) -> dict[str, Any]:
    return {
        "label": label,
        "width_px": facts.width_px,
        "height_px": facts.height_px,
        "mpp": facts.mpp,
        "tile_px": TILE_PX,
        "highest": highest_level(facts.width_px, facts.height_px),
        "tiles": "" if row is None else f"../tiles/{id_of(row)}/",
        "version": facts.fingerprint[:12],
        "overview": f"{what}.png",
    }


def _overlay_json(overlays: Overlays, what: str) -> dict[str, Any]:
    width, height = overlays.size_px(what)
    return {
        "width_px": width,
        "height_px": height,
        "highest": highest_level(width, height),
        "width_share": overlays.width_share(what),
    }


def mapping_json(mapping: SlideMapping) -> dict[str, Any]:
    """Return the mapping for the browser; bytes of the labels in base64, displacements in µm."""
    return {
        "lattice_um": LATTICE_UM,
        "labels_mpp": mapping.labels_mpp,
        "labels_shape": list(mapping.labels.shape),
        "labels": b64encode(mapping.labels.tobytes()).decode(),
        "main": {
            "matrix": list(mapping.main.matrix),
            "shift_um": list(mapping.main.shift_um),
        },
        "pieces": [
            {
                "matrix": list(piece.affine.matrix),
                "shift_um": list(piece.affine.shift_um),
                "lattice_shape": list(piece.lattice.shape[:2]),
                "lattice": [round(value, 2) for value in piece.lattice.ravel().tolist()],
            }
            for piece in mapping.pieces
        ],
    }
