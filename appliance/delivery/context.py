"""Object context: facts that all objects of a case share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydicom import Dataset
from pydicom.sr.coding import Code

from appliance.assays.assay import Assay
from appliance.domain import Stain
from appliance.findings.findings import Findings
from appliance.findings.opinion import ModelReference
from appliance.settings.identify import Writing
from appliance.settings.objects import ObjectSettings
from dicom import codes
from dicom.request import NO_REQUEST, OrderedRequest
from dicom.segmentation import AlgorithmFacts

FORMER_INTENSITY = Code(
    codes.STAIN_INTENSITY.value,
    codes.STAIN_INTENSITY.scheme_designator,
    "Mean intensity class of stained tumor",
)
"""Concept of a mean intensity as earlier editions worded it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectContext:
    """Facts that all objects of a case share.

    Attributes
    ----------
    sources
        Headers of each slide's volume images, level 0 first, by stain.
    algorithms
        Networks that answered, by task.
    seed
        Text that UIDs are made from: equal findings give equal UIDs.
    request
        Request of the laboratory that the result answers; empty where none is known.
    installation
        Name of the installation, of which its Device Observer UID is made.
    as_before
        Objects of an earlier edition are written again, with its bytes.
    writing
        Rule by which the header's accession is the one that was identified; None: objects of an
        edition with a looser rule are written again.
    filled
        What was filled in the header of level 0 of each slide, by stain; empty for nothing. None:
        objects of an edition are written again that filled nothing, and took the first of several
        specimens.
    specimens_as_before
        Objects of an edition are written again that took the first of several specimens that an
        identifier of the block names.
    """

    findings: Findings
    assay: Assay
    sources: Mapping[Stain, Sequence[Dataset]]
    algorithms: Mapping[str, AlgorithmFacts]
    settings: ObjectSettings
    created: datetime
    seed: str
    software: str
    request: OrderedRequest = NO_REQUEST
    installation: str = ""
    as_before: bool = False
    writing: Writing | None = field(default_factory=Writing)
    filled: Mapping[Stain, str] | None = field(default_factory=dict)
    specimens_as_before: bool = False

    @property
    def anatomy(self) -> Stain:
        """Stain of the anatomy slide."""
        return self.assay.anatomy.code

    @property
    def target(self) -> Stain:
        """Stain of the target slide."""
        return self.assay.target.code

    @property
    def intensity(self) -> Code:
        """Concept of a mean intensity."""
        return FORMER_INTENSITY if self.as_before else codes.STAIN_INTENSITY

    def mpp(self, stain: Stain) -> float:
        """Return the µm per level-0 px with which a slide was read."""
        findings = self.findings
        return findings.he.mpp if stain == self.anatomy else findings.ihc.mpp

    def overlay_seed(self, stain: Stain, name: str) -> str:
        """Return what the UIDs of an overlay derive from.

        What was filled in the header of its slide is a part: an archive may have an overlay without
        it, under the same UIDs.
        """
        return "|".join((self.seed, name, *filter(None, [(self.filled or {}).get(stain)])))

    def algorithm(self, task: str) -> AlgorithmFacts:
        """Network of a task; the appliance itself where the reader used none."""
        return self.algorithms.get(task) or AlgorithmFacts(
            name=f"Tandem {self.assay.title} readers",
            version=self.software,
            weights_sha256="none",
            site_calibration="none",
        )


def algorithm_facts(model: ModelReference) -> AlgorithmFacts:
    """Return the facts that DICOM objects state of a network."""
    return AlgorithmFacts(
        name=f"Tandem {model.task}: {model.name}",
        version=model.version,
        weights_sha256=model.sha256,
        site_calibration=model.calibration_words,
    )
