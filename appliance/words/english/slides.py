"""English reasons for which a slide is set aside.

Kinds: ``quarantine`` (sentence), ``remedy``, ``slide-detail`` (what else is known of the reason),
``slide-error`` (all three in one line), ``not-for-an-assay`` (slides that are known and left
alone).
"""

from __future__ import annotations

from appliance.words.template import OTHER, Params, Words

QUARANTINE: Words = {
    "unreadable": "The file is not a slide that can be opened.",
    "unsupported": "The slide is compressed or laid out in a way that no reader here knows.",
    "damaged": "The file opens but a part of its pixels cannot be decoded.",
    "not-pyramidal": "The image is flat: it has neither tiles nor pyramid levels.",
    "no-mpp": "The slide does not say its resolution (µm per pixel).",
    "implausible-mpp": (
        "The stated resolution lies outside 0.1-1.1 µm per pixel, or does not fit the objective."
    ),
    "anisotropic": "The stated resolution differs between width and height.",
    "sidecar": "The sidecar beside the slide cannot be read, or may be of another slide.",
    "unknown-stain": "Neither the header nor the file name tells a stain that Tandem knows.",
    "no-accession": (
        "Neither the header, the barcode nor the file name holds an accession number."
    ),
    "no-block": "The accession is known, but not which tissue block the slide was cut from.",
    "identity-conflict": "What is known of the slide contradicts itself.",
    "wrong-picture": "The picture is not that of the stain that the slide is named for.",
    "same-slide": "The same picture came under another name.",
    "no-patient": "Neither the header nor an order names the patient of this slide.",
    "missing-tags": (
        "The DICOM header lacks what a whole slide image must have, or has it in a form that "
        "cannot be read."
    ),
    "invalid-uid": (
        "The DICOM file has no valid UID: digits and single dots, no leading zeros, at most 64 "
        "characters."
    ),
    "invalid-header": "The DICOM header has an identifier that results cannot carry.",
    "no-tissue": "No tissue was found on the slide.",
    "never-finished": "The file stopped growing before it became a whole slide.",
    "vanished": "The file was renamed, moved or deleted before it was read.",
    "worker-killed": "Reading the slide killed its worker process several times.",
    "took-too-long": "Reading the slide took too long.",
    "file-touched": (
        "Something changes the file's attributes, but not its bytes, whenever the slide is read."
    ),
    "failed": "A step failed with an error that Tandem does not know.",
    # Slides that others took the place of, or that a person left out: no trouble.
    "newer-scan": "A newer scan of the slide took its place.",
    "chosen": "A person chose another scan of the slide.",
    "same-content": "The same scan is there under another name or path.",
    "excluded": "A person left the slide out.",
}

REMEDIES: Words = {
    "unreadable": "Check the export on the scanner and scan or export the slide again.",
    "unsupported": (
        "Export it in color, 8 bits a sample, as SVS, NDPI, BigTIFF (JPEG) or DICOM WSM (JPEG or "
        "JPEG 2000)."
    ),
    "damaged": "Copy or scan the slide again.",
    "not-pyramidal": "Export it as a pyramidal tiled slide (SVS, NDPI, BigTIFF or DICOM WSM).",
    "no-mpp": ("Set it in a sidecar file NAME.tandem.toml (mpp = 0.25), then: tandem retry."),
    "implausible-mpp": (
        "Correct it in a sidecar file NAME.tandem.toml (mpp = 0.25), then: tandem retry."
    ),
    "anisotropic": (
        "Export it with square pixels. If only the header is wrong: set the resolution in a "
        "sidecar file NAME.tandem.toml (mpp = 0.25), then: tandem retry."
    ),
    "sidecar": (
        "Correct the line of the sidecar that is named, or rename the sidecar for its slide, then: "
        "tandem retry."
    ),
    "unknown-stain": (
        "Rename the export to ACCESSION_BLOCK_STAIN, or add the lab's word for the stain to"
        " [identify.stains] in the settings, then: tandem retry."
    ),
    "no-accession": (
        "Rename the export to ACCESSION_BLOCK_STAIN, or set identify.patterns to the lab's "
        "form, then: tandem retry."
    ),
    "no-block": (
        "Rename the export to ACCESSION_BLOCK_STAIN, or set identify.patterns to the lab's "
        "form, then: tandem retry."
    ),
    "identity-conflict": (
        "Look at the label, then say which is right: tandem identify set SLIDE --accession … "
        "--block … --stain … --by … --why …."
    ),
    "wrong-picture": (
        "Look at the slide and its label. Say what it is: tandem identify set SLIDE --stain … --by "
        "… --why …. Or, if the picture deceives: tandem identify keep SLIDE --by … --why …."
    ),
    "same-slide": (
        "Look at both labels, then say which name is right (tandem identify set), or leave this "
        "one out: tandem identify exclude SLIDE --by … --why …."
    ),
    "no-patient": (
        "Enter the order in the worklist, then: tandem retry. Or have a stand-in ID written: "
        'identify.without_patient = "stand-in".'
    ),
    "missing-tags": "Export the slide again, or update the scanner's DICOM export.",
    "invalid-uid": "Correct the UID root in the scanner's DICOM export, then export it again.",
    "invalid-header": (
        "Correct it in the worklist or in the scanner's DICOM export (at most 64 characters, no "
        "backslash), then export the slide again."
    ),
    "no-tissue": "Look at the slide; if there is tissue, scan it again with a new focus map.",
    "never-finished": "Copy or scan the slide again; it is taken up as soon as the file changes.",
    "vanished": (
        "Nothing needs to be done if that was meant. A file that comes back is taken up by itself."
    ),
    "worker-killed": "Keep the file and report it; meanwhile score this case by hand.",
    "took-too-long": "Open it in a viewer. If it is sound: raise lanes.deadline_factor, retry.",
    "file-touched": (
        "Let no job change owner, rights or links of the scanner's files by the hour (chown -R, "
        "snapshots by hard links), then: tandem retry."
    ),
    "failed": "See the case's events and the log, then: tandem retry.",
    # A reason of a newer version.
    OTHER: "See the case's events and the log, then: tandem retry.",
}

NOT_FOR_AN_ASSAY: Words = {
    "other": "{stain}: a stain that no assay here uses; nothing needs to be done.",
    "control": "A control slide, not the patient's; nothing needs to be done.",
    "hybridization": "An in situ hybridization, not the IHC slide; nothing needs to be done.",
    "excluded": "A person left it out.",
}

DETAILS: Words = {
    "failed": "{error}: {message}",
    "worker-killed": "{crashes} times",
    "took-too-long": "{detail}",
    "file-touched": "{times} times",
    "newer-scan": "{slide}",
    "chosen": "{slide}",
    "same-content": "{slide}",
    OTHER: lambda facts: str(facts.get("detail", "")),
}


def _error(facts: Params) -> str:
    code, detail = facts["code"], facts["detail"]
    between = f" ({detail})" if detail else ""
    return f"{QUARANTINE[code]}{between} {REMEDIES[code]}"


SLIDE_ERRORS: Words = {OTHER: _error}
