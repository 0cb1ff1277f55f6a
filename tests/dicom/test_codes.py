"""Codes and UIDs against the standard's own dictionaries and against each other."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom import codes
from dicom.uids import deterministic_uid


def test_scores_are_loincs() -> None:
    assert codes.HER2_SCORE.value == "85319-2"
    assert {name: (c.value, c.scheme_designator) for name, c in codes.SCORES.items()} == {
        "0": ("LA6111-4", "LN"),
        "1+": ("LA11841-6", "LN"),
        "2+": ("LA11842-4", "LN"),
        "3+": ("LA11843-2", "LN"),
    }


@pytest.mark.parametrize(
    ("ours", "standard"),
    [
        (codes.NEOPLASM, dictionary.SCT.Neoplasm),
        (
            codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            dictionary.SCT.MorphologicallyAbnormalStructure,
        ),
        (codes.INDETERMINATE, dictionary.SCT.Indeterminate),
        (codes.HEMATOXYLIN, dictionary.SCT.HematoxylinStain),
        (codes.EOSIN, dictionary.SCT.WaterSolubleEosinStain),
        (codes.STAINING, dictionary.SCT.Staining),
        (codes.USING_SUBSTANCE, dictionary.SCT.UsingSubstance),
        (codes.PROCESSING_TYPE, dictionary.DCM.ProcessingType),
        (codes.AREA, dictionary.SCT.Area),
        (codes.PROBABILITY, dictionary.DCM.Probability),
        (codes.ARTIFICIAL_INTELLIGENCE, dictionary.DCM.ArtificialIntelligence),
        (codes.COMMENT, dictionary.DCM.Comment),
        (codes.IMAGE_LIBRARY, dictionary.DCM.ImageLibrary),
        (codes.LIBRARY_GROUP, dictionary.DCM.ImageLibraryGroup),
        (codes.MODALITY, dictionary.DCM.Modality),
        (codes.SLIDE_MICROSCOPY, dictionary.DCM.SlideMicroscopy),
        (codes.OTHER_MODALITY, dictionary.DCM.Other),
        (codes.FRAME_OF_REFERENCE, dictionary.DCM.FrameOfReferenceUID),
    ],
)
def test_code_is_the_standards(ours: Code, standard: Code) -> None:
    assert ours == standard


def test_codes_fit_their_attributes_and_are_unique() -> None:
    found = [value for value in vars(codes).values() if isinstance(value, Code)]
    for table in (codes.SCORES, codes.TUMOR_SHARE):
        found += table.values()
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in found), found
    pairs = [(code.value, code.scheme_designator) for code in found]
    assert len(pairs) == len(set(pairs))


def test_low_and_ultralow_are_private() -> None:
    assert {code.scheme_designator for code in codes.LOW_CLASSES.values()} == {"99TANDEM"}


def test_uids() -> None:
    uid = deterministic_uid("study", "S26-1")
    assert uid == deterministic_uid("study", "S26-1")
    assert uid.startswith("2.25.")
    assert UID(uid).is_valid
    assert len(uid) <= 64
    # Parts are told apart, not strung together.
    assert deterministic_uid("a", "bc") != deterministic_uid("ab", "c")
    assert deterministic_uid(b"\x00\xff") == deterministic_uid("00ff")


def test_classes_of_any_assay_have_codes_of_their_own() -> None:
    names = ["2+", "weak", "low", "very low indeed", "very low, not indeed", "++", "強"]
    found = [codes.segment_class(name) for name in names]
    assert len(set(found)) == len(names)
    assert found[0] == codes.SCORES["2+"]
    assert all(len(code.value) <= 16 and code.meaning for code in found)
