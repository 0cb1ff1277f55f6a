"""Settings of the assays of nuclear receptors, ER and PR."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from appliance.settings.section import Section


class Nuclear(Section):
    """Stain limits and conditions of a review of ER and PR. Both assays are off unless
    ``extensions`` names "appliance.assays.er.assay" or "appliance.assays.pr.assay"."""

    weak_od: Annotated[float, Field(gt=0, lt=3)] = 0.15
    """Least DAB of a positive nucleus above its surroundings, as optical density along the stain's
    vector. On drawn fields 95 % of the negative nuclei have at most 0.02, and 95 % of the palest
    positive ones at least 0.21."""
    moderate_od: Annotated[float, Field(gt=0, lt=3)] = 0.5
    """The same of a moderately stained nucleus."""
    strong_od: Annotated[float, Field(gt=0, lt=3)] = 0.85
    """The same of a strongly stained nucleus."""
    positive_band_percent: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Distance from 1 % of positive nuclei within which a result goes to review."""
    low_positive_band_percent: Annotated[float, Field(ge=0, le=9)] = 5.0
    """Distance from 10 % within which an ER result goes to review."""
    control_strongest: Literal["weak", "moderate", "strong"] = "moderate"
    """Strongest class of the site's control tissue in a run that worked."""

    @model_validator(mode="after")
    def _classes_follow(self) -> Self:
        if not self.weak_od < self.moderate_od < self.strong_od:
            raise ValueError("write weak_od < moderate_od < strong_od")
        return self
