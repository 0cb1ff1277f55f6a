"""Pictures of a case for download: one ZIP file of PNGs, as ``tandem picture`` writes them.

Pictures of the whole slides are made here, from the findings. Those of tiles and regions need the
slide's file and a network, which a page has not: ``tandem picture`` makes and keeps them.
"""

from __future__ import annotations

from html import escape
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import streamlit as st

from appliance.artifacts import ArtifactStore, is_as_written
from appliance.delivery.pictures.case import LEVELS, WHATS, PicturedCase
from appliance.delivery.pictures.drawing import png
from appliance.delivery.pictures.make import pictures_key
from appliance.delivery.pictures.whole import slide_picture
from dashboard.assay_facts import assay_of
from dashboard.queries import CaseDetail
from dashboard.stored import (
    ResultDamagedError,
    require_sound_pictures,
    sound_findings,
    sound_pictures,
)
from dashboard.views import look


def offer(detail: CaseDetail) -> None:
    """Show the button of the download; nothing where the case has no findings that can be read."""
    folder = detail.findings_folder
    if folder is None or assay_of(detail.case.assay) is None:
        return
    try:
        require_sound_pictures(folder)
    except ResultDamagedError as err:
        look.block(
            '<div class="td-empty" data-testid="pictures">The stored pictures of this case are '
            f"damaged ({escape(str(err))}). Analyze the case again.</div>"
        )
        return
    except OSError as err:
        look.block(
            '<div class="td-empty" data-testid="pictures">The stored pictures of this case cannot '
            f"be read ({escape(err.strerror or type(err).__name__)}). See to the disk of the state "
            "folder.</div>"
        )
        return
    name = f"case-{detail.case.id}"
    kept = kept_pictures(detail)
    st.download_button(
        "Download pictures (ZIP)",
        data=lambda: zipped(name, folder, kept_pictures(detail)),
        file_name=f"{name}-pictures.zip",
        mime="application/zip",
        on_click="ignore",
    )
    more = (
        f"whole slides, with {len(kept)} of tiles and regions"
        if kept
        else f"whole slides only; tiles, regions and attention: tandem picture {name} --out FOLDER"
    )
    look.block(f'<div class="muted small" data-testid="pictures">PNG with scale bars, {more}</div>')


def kept_pictures(detail: CaseDetail) -> list[Path]:
    """Pictures of tiles and regions that ``tandem picture`` made of the case's present findings.

    Those with heat maps where there are both. None that are not what was written.
    """
    store = ArtifactStore(look.settings().artifacts_dir)
    found: list[Path] = []
    for what in WHATS:
        for level in LEVELS:
            keys = [
                pictures_key(detail.findings_key, what, level, attention=attention)
                for attention in (True, False)
            ]
            folders = [store.path(key) for key in keys if level != "slide"]
            there = next((folder for folder in folders if _is_sound(folder)), None)
            found += sorted(there.glob("*.png")) if there is not None else []
    return found


def _is_sound(folder: Path) -> bool:
    try:
        return is_as_written(folder)
    except OSError:  # another user's, who ran the command
        return False


def zipped(name: str, folder: Path, kept: list[Path]) -> bytes:
    """ZIP file of the whole slides of the findings in `folder` and of pictures that are kept."""
    findings = sound_findings(folder)
    assay = assay_of(findings.assay)
    data = BytesIO()
    with ZipFile(data, "w", ZIP_STORED) as archive:
        if assay is not None:
            case = PicturedCase(name=name, findings=findings, assay=assay)
            for what, thumbnail in zip(WHATS, sound_pictures(folder), strict=True):
                archive.writestr(
                    f"{name}-{what}-slide.png", png(slide_picture(case, what, thumbnail))
                )
        for file in kept:
            archive.write(file, file.name)
    return data.getvalue()
