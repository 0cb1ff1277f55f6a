"""Resolution of a slide as its header states it, checked on both axes and against the objective."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import openslide

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.ome import is_ome, ome_power, ome_resolution_um, ome_size_px
from dicom.placement import MOST_ANISOTROPY

MPP_RANGE = (0.1, 1.1)
"""Plausible µm per px of level 0: 100x oil to 10x."""
OBJECTIVE_UM = 10.0
"""µm per px times power: 40x has about 0.25 µm per px, 20x about 0.5."""
MOST_OFF = 1.6
"""Largest factor between the stated resolution and that of the objective."""
MOST_FINER = 2.4
"""The same, for a resolution finer than that of the lens: some scanners (3DHISTECH, Zeiss) state
the power of the lens, behind which the camera's optics magnify further (20x at 0.22 µm per px).
Centimeters labeled as inches, and inches as centimeters, are off by 2.54."""
CM_PER_INCH = 2.54
SCANNERS_UM = (0.2, 0.28)
"""µm per px that scanners have at 40x. Without any objective, only these tell that a resolution per
centimeter was labeled as one per inch."""
POWER_RANGE = (1.0, 150.0)
_POWER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)")
SAME_FACTOR, LEAST_RESIZED = 0.02, 0.1
"""Largest relative difference of the factors of both sides of a picture that was resized as a
whole, and the least change of size that counts: levels drop or round px at the edge."""
_APERIO_SIZE = re.compile(
    r"Aperio[^\r\n]*\r?\n(?P<whole_w>[0-9]{1,7})x(?P<whole_h>[0-9]{1,7})"
    r"(?: \[[0-9]+, ?[0-9]+[ ,]+(?P<w>[0-9]{1,7})x(?P<h>[0-9]{1,7})\])?"
)
_APP_MAG = re.compile(r"\bAppMag\s*=\s*([0-9.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Power of an objective such as 40, and how much finer than it a slide may be."""

    power: float
    most_finer: float

    def fits(self, mpp: float) -> bool:
        """Return whether a slide of `mpp` µm per px may have been scanned with it."""
        coarser = mpp * self.power / OBJECTIVE_UM
        return 1 / self.most_finer <= coarser <= MOST_OFF

    def is_near(self, mpp: float) -> bool:
        """Return whether `mpp` is what this power usually has."""
        return 1 / MOST_OFF <= mpp * self.power / OBJECTIVE_UM <= MOST_OFF


def stated_mpp(properties: Mapping[str, str], size_px: tuple[int, int]) -> float:
    """Return the µm per level-0 px of a header, the mean of both axes.

    `size_px` (width, height) of level 0 chooses between the images of an OME document.

    Raises
    ------
    SlideError
        NO_MPP, IMPLAUSIBLE_MPP, ANISOTROPIC.
    """
    _require_own_size(properties, size_px)
    x, y = _axes_um(properties, size_px)
    for one in (x, y):
        check_range(one, _would_be(one, objective_of(properties)))
    if max(x, y) > MOST_ANISOTROPY * min(x, y):
        raise SlideError(QuarantineReason.ANISOTROPIC, f"{x:g} x {y:g} µm per px")
    mpp = (x + y) / 2
    objective = objective_of(properties)
    if objective is not None and not objective.fits(mpp):
        usual = OBJECTIVE_UM / objective.power
        detail = f"{mpp:g} µm per px, where {objective.power:g}x has about {usual:g}"
        detail += _would_be(mpp, objective)
        raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, detail)
    if objective is None and _is_in_inches(properties):
        metric = mpp / CM_PER_INCH
        if SCANNERS_UM[0] <= metric <= SCANNERS_UM[1]:
            detail = f"{mpp:g} µm per px from px per inch; if they are per cm it is {metric:.4g}"
            raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, detail)
    return mpp


def _require_own_size(properties: Mapping[str, str], size_px: tuple[int, int]) -> None:
    """Raise SlideError IMPLAUSIBLE_MPP where the description is of this picture at another size.

    A program that shrank a slide may have kept its description, with the resolution of before. A
    part cut out of a slide keeps its resolution; its sides differ by two factors.
    """
    text = properties.get("tiff.ImageDescription", "")
    stated = ome_size_px(text) if is_ome(text) else _aperio_size_px(text)
    if stated is None or not all(stated):
        return
    across, down = (one / other for one, other in zip(size_px, stated, strict=True))
    if abs(across - down) > SAME_FACTOR * down or abs(across - 1) <= LEAST_RESIZED:
        return
    detail = f"the description is of {stated[0]} x {stated[1]} px, the picture has {size_px[0]} x "
    raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, f"{detail}{size_px[1]}")


def _aperio_size_px(text: str) -> tuple[int, int] | None:
    """Return the size of level 0 that an Aperio description states; None where it is another."""
    found = _APERIO_SIZE.match(text)
    if found is None:
        return None
    width, height = (found["w"], found["h"]) if found["w"] else (found["whole_w"], found["whole_h"])
    return int(width), int(height)


def _is_in_inches(properties: Mapping[str, str]) -> bool:
    """Return whether the resolution is that of a TIFF's tags, in px per inch."""
    return (
        properties.get(openslide.PROPERTY_NAME_VENDOR) == "generic-tiff"
        and properties.get("tiff.ResolutionUnit") == "inch"
        and "aperio.MPP" not in properties
        and not is_ome(properties.get("tiff.ImageDescription", ""))
    )


def check_range(mpp: float, would_be: str = "") -> None:
    """Raise SlideError IMPLAUSIBLE_MPP outside of `MPP_RANGE`; `would_be` ends its detail."""
    if not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise SlideError(QuarantineReason.IMPLAUSIBLE_MPP, f"{mpp:g} µm per px{would_be}")


def objective_of(properties: Mapping[str, str]) -> Objective | None:
    """Return the objective that a header states; None where it does not, or nonsense."""
    text = properties.get("tiff.ImageDescription", "")
    apparent = properties.get("aperio.AppMag") or "".join(_APP_MAG.findall(text)[:1])
    stated = apparent or properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)
    found = _POWER.match(stated or ome_power(text))
    power = float(found[1]) if found else 0.0
    if not POWER_RANGE[0] <= power <= POWER_RANGE[1]:
        return None
    # Aperio's AppMag is the magnification of the image, not that of the lens.
    return Objective(power=power, most_finer=MOST_OFF if apparent else MOST_FINER)


def _axes_um(properties: Mapping[str, str], size_px: tuple[int, int]) -> tuple[float, float]:
    """Return µm per px in x and y. An OME document is more exact than the tags of its TIFF."""
    text = properties.get("tiff.ImageDescription", "")
    found = ome_resolution_um(text, size_px) if is_ome(text) else None
    if found is not None:
        return found
    try:
        return (
            float(properties[openslide.PROPERTY_NAME_MPP_X]),
            float(properties[openslide.PROPERTY_NAME_MPP_Y]),
        )
    except (KeyError, ValueError) as err:
        raise SlideError(QuarantineReason.NO_MPP) from err


def _would_be(mpp: float, objective: Objective | None) -> str:
    """Return what the resolution would be with the other unit of length, if that fits better."""
    if objective is not None:
        for unit, other in (("cm", mpp / CM_PER_INCH), ("inch", mpp * CM_PER_INCH)):
            if objective.is_near(other):
                return f"; as px per {unit} it would be {other:.4g}"
    return ""
