"""Export of a case's result into files for other programs."""

from __future__ import annotations

from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written, is_unchecked
from appliance.assays.assay import Assay
from appliance.assays.registry import find_assay
from appliance.delivery.exports import SUFFIXES, ExportKind, offsets_of, write_export
from appliance.domain import Stain
from appliance.errors import SettingsError
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.ledger.tables import id_named
from appliance.operations.start_checks import require_outside
from appliance.operations.status import open_ledger
from appliance.settings.settings import Settings

ENDINGS: dict[ExportKind, tuple[str, ...]] = {
    "geojson": (".geojson", ".json"),
    "label_map": (".tif", ".tiff"),
}
"""Ends of names, in lower case, by which a path is a file and no folder."""


def export_case(
    settings: Settings,
    subject: str,
    *,
    geojson: Path | None = None,
    label_map: Path | None = None,
    slide: str = "",
) -> list[Path]:
    """Write the latest result of a case to places by kind of export; return the files.

    A place is a folder, which is made, and gets a file for each slide: ``case-3-HE.geojson``; or a
    file for one slide, the target or that of the stain `slide`. None: not wanted.

    Raises
    ------
    SettingsError
        If there is no such case or slide, it has no result, the result is not what was written, or
        a place cannot be written or lies inside of a scanner's folder.
    """
    places: dict[ExportKind, Path | None] = {"geojson": geojson, "label_map": label_map}
    for each in filter(None, (geojson, label_map)):
        require_outside(settings, each)
    findings = _findings(settings, subject)
    assay = find_assay(findings.assay)
    codes = {code.casefold(): code for code in (assay.anatomy.code, assay.target.code)}
    if slide and slide.casefold() not in codes:
        known = ", ".join(codes.values())
        raise SettingsError(f"{subject} has no slide {slide!r}. Its slides are {known}.")
    only = codes.get(slide.casefold())
    try:
        offsets = offsets_of(findings, assay, ArtifactStore(settings.artifacts_dir))
    except (OSError, ValueError) as err:
        raise SettingsError(
            f"{subject}: what is stored of its slides cannot be read. Have it made again first: "
            f"tandem rerun {subject}"
        ) from err
    written: list[Path] = []
    for kind, place in places.items():
        if place is None:
            continue
        files = _files(kind, place, subject, assay, only)
        try:
            for stain, path in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if write_export(kind, findings, assay, stain, path, offsets[stain]):
                    written.append(path)
        except OSError as err:
            raise SettingsError(
                f"{place} cannot be written ({err.strerror}). Name another file or folder."
            ) from err
    return written


def _files(
    kind: ExportKind, place: Path, subject: str, assay: Assay, only: Stain | None
) -> dict[Stain, Path]:
    if place.name.lower().endswith(ENDINGS[kind]) and not place.is_dir():
        return {only or assay.target.code: place}
    stains = [only] if only else [assay.anatomy.code, assay.target.code]
    return {stain: place / f"{subject}-{stain}{SUFFIXES[kind]}" for stain in stains}


def _findings(settings: Settings, subject: str) -> Findings:
    number = id_named(subject, "case")
    ledger = open_ledger(settings)
    try:
        with ledger.transaction() as tx:
            case = tx.case(number) if number is not None else None
            key = case.findings_key if case is not None else ""
    finally:
        ledger.close()
    if case is None:
        raise SettingsError(f"no {subject!r}. `tandem status` lists ids such as case-1.")
    if not key:
        raise SettingsError(
            f"{subject} has no result yet. `tandem status` tells what it waits for."
        )
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(key))
    if not is_unchecked(folder) and not is_as_written(folder):
        raise SettingsError(
            f"{subject}: its stored result is not what was written. Have it made again first: "
            f"tandem rerun {subject}"
        )
    return load_findings(folder)
