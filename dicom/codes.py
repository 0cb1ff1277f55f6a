"""Coded concepts that Tandem writes. LN is LOINC, SCT is SNOMED CT, DCM is DICOM (PS3.16).

Values have at most 16 characters (SH), meanings at most 64 (LO).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.sr.coding import Code

MORPHOLOGICALLY_ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically abnormal structure")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")

HEMATOXYLIN = Code("12710003", "SCT", "hematoxylin stain")
EOSIN = Code("36879007", "SCT", "water soluble eosin stain")
STAINING = Code("127790008", "SCT", "Staining")
USING_SUBSTANCE = Code("424361007", "SCT", "Using substance")
PROCESSING_TYPE = Code("111701", "DCM", "Processing type")

HER2_SCORE = Code("85319-2", "LN", "HER2 [Presence] in Breast cancer specimen by Immune stain")
SCORES = {
    "0": Code("LA6111-4", "LN", "0"),
    "1+": Code("LA11841-6", "LN", "1+"),
    "2+": Code("LA11842-4", "LN", "2+"),
    "3+": Code("LA11843-2", "LN", "3+"),
}
STATUSES = {
    "negative": Code("260385009", "SCT", "Negative"),
    "equivocal": Code("42425007", "SCT", "Equivocal"),
    "positive": Code("10828004", "SCT", "Positive"),
}
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")
HER2_IN_TISSUE = Code("18474-7", "LN", "HER2 Ag [Presence] in Tissue by Immune stain")
COMPLETE_INTENSE_SHARE = Code(
    "85328-3", "LN", "Cells with intense complete membrane staining/100 cells"
)
ER_PRESENCE = Code(
    "85337-4", "LN", "Estrogen receptor Ag [Presence] in Breast cancer by Immune stain"
)
PR_PRESENCE = Code(
    "85339-0", "LN", "Progesterone receptor Ag [Presence] in Breast CA by Immune stain"
)
# The percentage of positive cells; meanings are shortened to 64 characters.
ER_CELLS = Code("85329-1", "LN", "Cells.estrogen receptor/100 cells in Breast cancer specimen")
PR_CELLS = Code("85325-9", "LN", "Cells.progesterone receptor/100 cells in Breast cancer specimen")
PATHOLOGY_STUDY = Code("11526-1", "LN", "Pathology study")

AREA = Code("42798000", "SCT", "Area")
PROBABILITY = Code("122157", "DCM", "Probability")
SQUARE_MM = Code("mm2", "UCUM", "square millimeter")
PERCENT = Code("%", "UCUM", "percent")
MICROMETER = Code("um", "UCUM", "micrometer")
NO_UNITS = Code("1", "UCUM", "no units")
PERSON = Code("121006", "DCM", "Person")
VERIFYING = Code("121098", "DCM", "Verifying")
DEVICE = Code("121007", "DCM", "Device")
SPECIMEN = Code("121027", "DCM", "Specimen")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
SOURCE = Code("260753009", "SCT", "Source")
MODALITY = Code("121139", "DCM", "Modality")
SLIDE_MICROSCOPY = Code("SM", "DCM", "Slide Microscopy")
OTHER_MODALITY = Code("OT", "DCM", "Other")
MODALITIES = {code.value: code for code in (SLIDE_MICROSCOPY, OTHER_MODALITY)}
"""Modalities of overlays (CID 33)."""
FRAME_OF_REFERENCE = Code("112227", "DCM", "Frame of Reference UID")
COMMENT = Code("121106", "DCM", "Comment")
ACCESSION = Code("121022", "DCM", "Accession Number")
SPECIMEN_ID = Code("121041", "DCM", "Specimen Identifier")
PARENT_SPECIMEN_ID = Code("111705", "DCM", "Parent Specimen Identifier")

# No international code: private, and always beside the LOINC score.
_PRIVATE = "99TANDEM"
TUMOR_SHARE = {
    name: Code(f"share-{name.rstrip('+')}", _PRIVATE, f"Tumor area scored {name}")
    for name in SCORES
}
COMPLETENESS = {
    name: Code(f"membrane-{name.rstrip('+')}", _PRIVATE, f"Membrane completeness, cells of {name}")
    for name in SCORES
}
LOW_CLASS = Code("low-class", _PRIVATE, "HER2-low class")
LOW_CLASSES = {
    "HER2-low": Code("her2-low", _PRIVATE, "HER2-low"),
    "HER2-ultralow": Code("her2-ultralow", _PRIVATE, "HER2-ultralow"),
}
TUMOR_AREA = Code("tumor-area", _PRIVATE, "Tumor area scored")
UNSCORED_AREA = Code("unscored-area", _PRIVATE, "Tumor area without partner, not scored")
STAIN_INTENSITY = Code("intensity", _PRIVATE, "Mean intensity class of tumor, 0 to 3")
ATTENTION = Code("attention", _PRIVATE, "Weight of a tile in a reader's answer by an even share")
H_SCORE = Code("h-score", _PRIVATE, "H-score")
NUCLEI_SHARE = {
    name: Code(f"nuclei-{name}", _PRIVATE, f"Tumor nuclei, {name}")
    for name in ("negative", "weak", "moderate", "strong")
}
SEGMENT_CLASSES = SCORES | NUCLEI_SHARE
"""Codes, by name of the class, that tell the segments of a slide apart: all are neoplasm."""
SHARE_SEGMENT = {share.value: SCORES[name] for name, share in TUMOR_SHARE.items()}
"""Class of the segment on which a share of the tumor area rests, by the code value of the share."""
SEGMENT_SCORED = Code("scored", _PRIVATE, "In tiles that are scored")
SEGMENT_NOT_SCORED = Code("not-scored", _PRIVATE, "In tiles that are not scored")
NUCLEI_COUNTED = Code("nuclei-counted", _PRIVATE, "Tumor nuclei counted")
AVERAGE_INTENSITY = Code("mean-intensity", _PRIVATE, "Average intensity of positive nuclei, 1 to 3")
ALLRED = Code("allred", _PRIVATE, "Allred score, 0 to 8")
ALLRED_PROPORTION = Code("allred-share", _PRIVATE, "Allred proportion score, 0 to 5")
ALLRED_INTENSITY = Code("allred-intensity", _PRIVATE, "Allred intensity score, 0 to 3")
RECEPTOR_CLASS = Code("receptor-class", _PRIVATE, "Receptor class of the guideline")
LOW_POSITIVE = Code("low-positive", _PRIVATE, "Low positive")
RESULT_COMMENT = Code("result-comment", _PRIVATE, "Comment on the result")
# LOINC 48676-1 (HER2 [Interpretation] in Tissue) is the status after all methods, ISH among them.
IHC_STATUS = Code("ihc-status", _PRIVATE, "HER2 status by the IHC score")
PIXEL_STATUS = Code("pixel-status", _PRIVATE, "HER2 status by px of 0 and 3+, arXiv 2512.22335")
PAPER_SCORE = Code("paper-score", _PRIVATE, "Algorithm 1 of arXiv 2512.22335, highest class")
PAPER_COUNT = Code("paper-count", _PRIVATE, "Algorithm 1 of arXiv 2512.22335, largest count")
# The paper has no score without a tile of 2+ or 3+: what Tandem gives then has names of its own.
FALLBACK_SCORE = Code("fallback-score", _PRIVATE, "Highest class of all tiles, fallback of Tandem")
FALLBACK_COUNT = Code("fallback-count", _PRIVATE, "Largest count of all tiles, fallback of Tandem")
WSI_PERCENT = Code("wsi-percent", _PRIVATE, "Tumor tiles scored 2+ or 3+")
WSI_OF_SLIDE = Code("wsi-of-slide", _PRIVATE, "Slide area in tiles scored 2+ or 3+")
TUMOR_PERCENT = Code("tumor-percent", _PRIVATE, "H&E tissue tiles that are tumor")
REGISTRATION_ERROR = Code("reg-error", _PRIVATE, "Registration error of H&E and IHC")
REVIEW = Code("review", _PRIVATE, "Reason for review")
SECOND_READER = Code("second-reader", _PRIVATE, "Opinion of a second reader of the whole slide")
INTERIM = Code("interim-existed", _PRIVATE, "Interim opinion before the result")
# Opinions of readers, each in a measurement group of its own.
OPINION = Code("opinion", _PRIVATE, "Class with the largest share or probability")
OPINION_ABOUT = Code("opinion-about", _PRIVATE, "Question that the reader answers")
OPINION_QUESTIONS = {
    "tumor": Code("about-tumor", _PRIVATE, "Where the tumor is"),
    "score": Code("about-score", _PRIVATE, "Score of the target slide"),
    "interim": Code("about-interim", _PRIVATE, "Hint before the target slide is there"),
    "status": Code("about-status", _PRIVATE, "Positive or negative"),
}
OPINION_SHARE = Code("opinion-share", _PRIVATE, "Share or probability of a class")
OPINION_CLASS = Code("opinion-class", _PRIVATE, "Class")
CERTAINTY = Code("certainty", _PRIVATE, "Mean certainty of the reader in its answers")
LOW_COMMENT = Code("low-comment", _PRIVATE, "HER2-low comment")
GUIDELINE = Code("guideline", _PRIVATE, "Guideline")
RULE = Code("rule", _PRIVATE, "Rule of the guideline that decided")
CATEGORY = Code("category", _PRIVATE, "Result category of the guideline")
CORRECTION = Code("correction", _PRIVATE, "Why a person corrected the score")
RESEARCH_NOTICE = Code("research-notice", _PRIVATE, "Notice")
# Titles of key object selections (CID 7010) that reject objects.
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
TITLE_MODIFIER = Code("113011", "DCM", "Document Title Modifier")
OTHER_FAILURE = Code("111220", "DCM", "Other failure")
REJECTED_FOR_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


def segment_class(name: str) -> Code:
    """Return the code of a label map's class; a private one for a class of a site's own assay."""
    return SEGMENT_CLASSES[name] if name in SEGMENT_CLASSES else _private_class(name)


def opinion_class(name: str, about: str) -> Code:
    """Return the code of a class that a reader answers: of scores and statuses the standard one.

    `about` is the reader's question. A nucleus that is negative is no negative slide: only a
    question for the status is answered by one.
    """
    standard = STATUSES if about == "status" else SCORES
    return standard[name] if name in standard else _private_class(name)


def _private_class(name: str) -> Code:
    """Return a private code of a class, by its name."""
    own = name.casefold()
    if not re.fullmatch(r"[a-z0-9]{1,10}", own):  # a code has 16 characters
        own = hashlib.sha256(own.encode()).hexdigest()[:10]
    return Code(f"class-{own}", _PRIVATE, name[:64])


def code_item(code: Code) -> Dataset:
    """Return an item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    if code.scheme_version:
        item.CodingSchemeVersion = code.scheme_version
    item.CodeMeaning = code.meaning
    return item


def private_schemes(others: Iterable[Code]) -> list[Dataset]:
    """Return items that identify the private codes of Tandem, and private ones among `others`.

    Of a scheme that is not Tandem's only the designator is known, which is all that an item must
    have. Designators of private schemes begin with 99 (PS3.16 8.2).
    """
    items = [private_scheme()]
    for scheme in dict.fromkeys(code.scheme_designator for code in others):
        if scheme.startswith("99") and scheme != _PRIVATE:
            items.append(Dataset())
            items[-1].CodingSchemeDesignator = scheme
    return items


def private_scheme() -> Dataset:
    """Return the item that identifies the private codes of Tandem (PS3.3 C.12.1, Table C.12-1)."""
    item = Dataset()
    item.CodingSchemeDesignator = _PRIVATE
    item.CodingSchemeName = "Private codes of Tandem"
    item.CodingSchemeResponsibleOrganization = "Tandem"
    return item
