"""Reasons of cases.

Kinds: ``case`` (the whole reason), ``case-trouble`` and ``case-remedy`` (its two halves, for cases
that wait for a person).
"""

from __future__ import annotations

from appliance.words.template import OTHER, Params, Words

_KILLED = "the worker process died {crashes} times"
_CORRECTION = "The findings that a person corrected or confirmed are damaged."
_CORRECT_AGAIN = (
    "Restore artifacts/ of the state folder, then: tandem retry {subject}. Or have the case "
    "analyzed again (tandem rerun {subject}) and repeat the person's word."
)
_LOG = "See the log, then: tandem retry {subject}"
_PUT_BACK = "Put the file back where it was, then: tandem retry {subject}"
_SLOW = "Raise lanes.deadline_factor if the machine is slow, then: tandem retry {subject}"


def _failed(facts: Params) -> str:
    return f"{facts['error']}: {facts['message']}".rstrip(".") + "."


def _gone(facts: Params) -> str:
    return f"The file of {' and '.join(facts['slides']) or 'a slide of this case'} is gone."


def _refused(facts: Params) -> str:
    where = ", ".join(facts["destinations"]) or "A destination"
    return f"{where} refused {facts['count'] or 'some'} of this case's objects for good."


def _missing(facts: Params) -> str:
    missing = " and ".join(facts["stains"]) or "second"
    return f"The {missing} slide of this block did not come in time.{_elsewhere(facts, missing)}"


def _elsewhere(facts: Params, stain: str) -> str:
    """Return where else in the accession a slide of the stain is; empty where nowhere."""
    blocks = facts.get("elsewhere") or ()
    many = "s" * (len(blocks) > 1)
    there = f" There is a {stain} slide of block{many} {' and '.join(blocks)} of this accession."
    return there if blocks else ""


def _no_stain(facts: Params) -> str:
    return (
        f"No {facts['stain']} slide of this block came.{_elsewhere(facts, facts['stain'])} Scan "
        "it, or look among the quarantined slides; the case goes on by itself when it arrives."
    )


_KEEP = "Correct what is wrong (tandem identify set), or, if it is the same patient: tandem "
_KEEP_CASE = f"{_KEEP}identify keep {{subject}} --by … --why …"


def _patients(facts: Params) -> str:
    both = f"{facts['he']} and {facts['ihc']}"
    if "source" in facts:
        if facts.get("against", "header") != "header":
            return f"Orders of the {facts['stain']} slide name different patients: {both}."
        return f"The {facts['stain']} slide and its order name different patients: {both}."
    return f"The two slides name different patients: {both}."


def _patients_and_remedy(facts: Params) -> str:
    return f"{_patients(facts)} {_KEEP_CASE.format_map(facts)}"


_STUDY = (
    "The {stain} slide and the study that the results go to name different patients (by {what}): "
    "the order became another one, or results of this case were sent before."
)
_OTHER_ORDER = (
    "The order names another patient (by {what}) than the {stain} slide, or than the study that "
    "the results go to: it became another one since."
)
_OTHER_SCORE = (
    "A person's word on this case (score: {score}) was given when its results named another "
    "patient (by {what}) than its slides do now."
)
_ORDER = (
    "Correct the order, then have both slides identified again: tandem identify retry SLIDE. If it "
    "is one patient: tandem identify keep {subject} --by … --why …"
)
_WHICH_ORDER = (
    "If the order is right, have both slides identified again: tandem identify retry SLIDE. If it "
    "is wrong, correct it first. If it is one patient: tandem identify keep {subject} --by … "
    "--why …"
)
_HOLDS = (
    "If that word holds for the patient of the slides, too: tandem identify keep {subject} --by … "
    "--why …; the report names who gave it. For another score do the same, then: tandem correct "
    "{subject}. If the slides name the wrong patient, correct the order, then have both identified "
    "again: tandem identify retry SLIDE"
)


def _study(facts: Params) -> str:
    told = {"order": _OTHER_ORDER, "score": _OTHER_SCORE}.get(facts.get("against", ""), _STUDY)
    return told.format_map(facts)


def _study_remedy(facts: Params) -> str:
    told = {"order": _WHICH_ORDER, "score": _HOLDS}.get(facts.get("against", ""), _ORDER)
    return told.format_map(facts)


_SAME = "Both slides show the same section ({detail}): one of them is not what it is named for."
_SET = "Look at both labels, then: tandem identify set SLIDE --stain … --by … --why …"
_SCANS = "It is not certain which scan of the {stain} slide is newer: {slides}."
_CHOOSE = "Choose one: tandem identify keep SLIDE --by … --why …"
_UNPAIRED = "A person said that {slides} do not belong together."
_PAIR = "To pair two slides: tandem identify pair HE IHC --by … --why …"
_SAME_SLIDE = "A slide of this case came under two names ({slides})."
_NAME = (
    "Look at both labels, then say which name is right (tandem identify set), or leave one out: "
    "tandem identify exclude SLIDE --by … --why …"
)

CASE_REASONS: Words = {
    "patients-differ": _patients_and_remedy,
    "study-differs": lambda facts: f"{_study(facts)} {_study_remedy(facts)}",
    "same-section": f"{_SAME} {_SET}",
    "two-scans": f"{_SCANS} {_CHOOSE}",
    "unpaired": f"{_UNPAIRED} {_PAIR}",
    "same-slide": f"{_SAME_SLIDE} {_NAME}",
    "no-slides": "No slide of this block is left; the case goes on when one comes.",
    "not-asked": "Nobody asked for a {stain} slide of this block; the case goes on if one comes.",
    "stain-missing": _no_stain,
    "step-failed": lambda facts: f"{_failed(facts)} {_LOG.format_map(facts)}",
    "slide-gone": lambda facts: f"{_gone(facts)} {_PUT_BACK.format_map(facts)}",
    "worker-killed": f"{_KILLED}. {_LOG}",
    "took-too-long": f"{{message}} {_SLOW}",
    "worklist-away": "{message}",
    "slide-changed": "The file of a slide changed; the slide is read again first.",
    "folder-away": "{message}",
    "look-again": "{message}",
    "disk-full": "{message}",
    "state-unusable": "{message}",
    "ledger-unwritable": "{message}",
    "weights-unusable": "{message}",
    "device-unusable": "{message}",
    "machine-short": "{message}",
    "source-changed": "{message}",
    "artifact-damaged": "{message}",
    "object-damaged": "A DICOM object is not what was written; it is written again, then sent.",
    "correction-damaged": f"{_CORRECTION} {_CORRECT_AGAIN}",
    "worker-died": "{message}",
    "worker-start": "{message}",
    "deadline-passed": "{message}",
    "cluster-away": "{message}",
    "worker-lost": "{message}",
    "held": "{message}",
    "refused": "A destination refused an object for good; see the deliveries.",
    "slide-absent": (
        "A destination has not the scanner's slide that the overlays lie on; see the deliveries."
    ),
    "unproven": "A destination cannot say whether it has an object; see the deliveries.",
    "told": "{text}",
    "objects-unreadable": (
        "The list of this case's objects cannot be read ({error}), so it is not known what belongs "
        "to it. Restore artifacts/ of the state folder."
    ),
    "assay-not-installed": (
        "The assay '{assay}' of this case is not installed here; the case is left as it is."
    ),
}

CASE_TROUBLES: Words = {
    "patients-differ": _patients,
    "study-differs": _study,
    "same-section": _SAME,
    "two-scans": _SCANS,
    "unpaired": _UNPAIRED,
    "same-slide": _SAME_SLIDE,
    "failed": "A step failed with an error that Tandem does not know.",
    "stain-missing": _missing,
    "refused": _refused,
    "step-failed": _failed,
    "slide-gone": _gone,
    "worker-killed": _KILLED,
    "took-too-long": "A step took too long: {message}",
    "told": "{text}",
    "correction-damaged": _CORRECTION,
    "assay-not-installed": "The assay '{assay}' of this case is not installed here.",
}

CASE_REMEDIES: Words = {
    "patients-differ": _KEEP_CASE,
    "study-differs": _study_remedy,
    "same-section": _SET,
    "two-scans": _CHOOSE,
    "unpaired": _PAIR,
    "same-slide": _NAME,
    "stain-missing": "Look for the missing scan. A late partner reopens the case by itself.",
    "refused": "See the errors below, correct the cause, then: tandem retry {subject}.",
    "step-failed": _LOG,
    "slide-gone": _PUT_BACK,
    "worker-killed": _LOG,
    "took-too-long": _SLOW,
    "correction-damaged": _CORRECT_AGAIN,
    "assay-not-installed": "Install the assay; the case goes on by itself at the next start.",
    OTHER: "See the case's events and the log, then: tandem retry.",
}
