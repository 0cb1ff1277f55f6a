"""Brands of scanners: format, names, barcode and pace of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.scanner.dicom_series import SeriesIdentity, dicom_series, dicom_template
from benchmarks.scanner.mirax import mirax
from benchmarks.scanner.tiff_formats import (
    aperio_svs,
    generic_tiff,
    hamamatsu_ndpi,
    labeled,
    philips_tiff,
)
from benchmarks.scanner.tissue import Section

Files = dict[str, bytes]
"""Content by name relative to the scanner's folder, in the order of writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLabel:
    """Label of one slide, as the scanner reads it; `scan` counts the scans of the slide."""

    accession: str
    block: str
    stain: str
    scan: int = 1

    @property
    def barcode(self) -> str:
        """Text of the barcode; each scan has its own, so that its bytes are its own."""
        return f"{self.accession}_{self.block}_{self.stain}_{self.scan:04d}"


Maker = Callable[[str, SlideLabel, bool], Files]
"""Files of a slide from its stem, its label, and whether the barcode could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A brand: `prepare` makes the files of any slide of a section, `slide_s` is seconds a slide.

    `name_pattern` is the scanner's way to name a slide. `many_files`: a slide is several files.
    `has_barcode`: its files hold the text of the label.
    """

    title: str
    suffix: str
    slide_s: float
    name_pattern: str
    prepare: Callable[[Section], Maker]
    many_files: bool = False
    has_barcode: bool = True

    def stem(self, label: SlideLabel) -> str:
        """Return the name that the scanner gives to a slide, without its suffix."""
        return self.name_pattern.format(
            accession=label.accession, block=label.block, stain=label.stain
        )


def _single(encode: Callable[[Section], bytes], suffix: str, section: Section) -> Maker:
    template = encode(section)

    def make(stem: str, label: SlideLabel, barcode_read: bool) -> Files:
        barcode = label.barcode if barcode_read else _serial(label)
        return {f"{stem}{suffix}": labeled(template, barcode, label.scan)}

    return make


def _mirax(section: Section) -> Maker:
    template = mirax(section)

    def make(stem: str, label: SlideLabel, barcode_read: bool) -> Files:
        barcode = label.barcode if barcode_read else _serial(label)
        return {
            f"{stem}/{name}" if name else f"{stem}.mrxs": labeled(content, barcode, label.scan)
            for name, content in template.items()
        }

    return make


def _dicom(section: Section) -> Maker:
    template = dicom_template(section)

    def make(stem: str, label: SlideLabel, barcode_read: bool) -> Files:
        identity = SeriesIdentity(
            accession=label.accession if barcode_read else "",
            container_id=f"{label.accession}_{label.block}_{label.stain}"
            if barcode_read
            else _serial(label),
            seed=label.barcode,
            scan=label.scan,
        )
        files = dicom_series(template, identity)
        # The coarsest level first, as the scanner has it first.
        return {f"{stem}/{name}": files[name] for name in reversed(files)}

    return make


def _serial(label: SlideLabel) -> str:
    """Barcode without an accession: a number of the scanner's own."""
    digits = "".join(c for c in label.barcode if c.isdigit())
    return f"SIM {digits} {len(label.stain)}"


PROFILES: Mapping[str, Profile] = {
    "aperio-svs": Profile(
        title="Aperio and GT450: one growing SVS; in half of them the header comes last",
        suffix=".svs",
        slide_s=44.0,
        name_pattern="{accession}_{block}_{stain}",
        prepare=partial(_single, aperio_svs, ".svs"),
    ),
    "hamamatsu-ndpi": Profile(
        title="Hamamatsu: one growing NDPI, the time of the scan in its name",
        suffix=".ndpi",
        slide_s=117.0,
        name_pattern="{accession};{block};2_{stain} - 2026-11-20 10.11.12",
        prepare=partial(_single, hamamatsu_ndpi, ".ndpi"),
    ),
    "generic-tiff": Profile(
        title="any scanner that writes a pyramidal BigTIFF",
        suffix=".tif",
        slide_s=100.0,
        name_pattern="{accession}.{block}.{stain}",
        prepare=partial(_single, generic_tiff, ".tif"),
        has_barcode=False,
    ),
    "philips-tiff": Profile(
        title="Philips: one TIFF with an XML description and the barcode in base64",
        suffix=".tiff",
        slide_s=60.0,
        name_pattern="{accession} {block} {stain}",
        prepare=partial(_single, philips_tiff, ".tiff"),
    ),
    "mirax": Profile(
        title="3DHISTECH: X.mrxs first, then the folder X with its index and data files",
        suffix=".mrxs",
        slide_s=183.0,
        name_pattern="{accession}_{block}_{stain}",
        prepare=_mirax,
        many_files=True,
    ),
    "dicom": Profile(
        title="DICOM: a folder for each series, the coarsest level first",
        suffix=".dcm",
        slide_s=90.0,
        name_pattern="{accession}_{block}_{stain}",
        prepare=_dicom,
        many_files=True,
    ),
}
