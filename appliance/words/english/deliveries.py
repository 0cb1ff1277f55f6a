"""English reasons for which an object is not delivered: kind ``delivery``."""

from __future__ import annotations

from appliance.words.template import Words

DELIVERY_REASONS: Words = {
    "no-destination": (
        "no destination '{destination}' in the settings any more; add it, then: tandem retry. "
        "Where it is not added, tandem retry leaves the object out, and sends the case's objects "
        "to the destinations of today"
    ),
    "away": "{message}",
    "not-allowed": "{message}",
    "object-damaged": "its file is not what was written; it is written again first",
    "object-replaced": "its file is damaged, and other objects took the place of this one",
    "replaced-since": (
        "a later result took its place before the ledger was restored from a backup, and "
        "'{destination}' may have that one: say the word on the score again, or run the case again "
        "(tandem rerun)"
    ),
    "result-refused": (
        "'{destination}' refused the report or an overlay of the new result, so the replaced "
        "result is not rejected there. Mend that, then: tandem retry"
    ),
    "withdrawn": lambda facts: (
        (
            f"it was withdrawn after {facts['attempts']} attempts, so '{facts['destination']}' may "
            "have it: look for it there, and reject it unless the scanner sent it. Why: "
            if facts.get("attempts")
            else "it was withdrawn before it was sent: "
        )
        + "a slide of it is no slide of its case, the case is held, its slides name another "
        "patient, or another result took its place"
    ),
    "slide-absent": (
        "'{destination}' has not this image of the scanner's slide ({answer}): no viewer there "
        "shows the overlays on it. Send the slide there from the scanner or its archive, or set "
        'dicom_slides = "send" for {destination}. It is asked for again.'
    ),
    "slide-gone": (
        "the file of the scanner's image is not there, so it cannot be sent. Mount the scanner's "
        "folder, or put the file back; it is tried again."
    ),
    "slide-unconvertible": (
        "the converted slide was removed or is damaged, and the scanner's file is gone or cannot "
        "be read, so it is not converted again. Put the file back, then: tandem retry"
    ),
    "slide-changed": (
        "the slide's file is another one than was analyzed, so it is not sent. The case is done "
        "again once the slide is read again; if not, put the file back, then: tandem retry"
    ),
    "slide-mixed": (
        "the slide's file changed while it was sent: what '{destination}' has under this UID may "
        "be damaged. Delete it there, then: tandem retry"
    ),
    "slide-trusted": 'dicom_slides is "trust" by now: it is neither sent nor asked for',
    "left-out": "by now the settings do not send it to '{destination}'",
    "unforeseen": "{error}: {message}. It is tried again.",
    "given-up": lambda facts: (
        f"given up after {facts['attempts']} attempts: "
        f"{(facts['last'] or 'no answer').rstrip('. ')}. Once the cause is mended: tandem retry."
    ),
    "refused": "'{destination}' {answer}",
    "not-now": "'{destination}' {answer}",
    "not-there": "accepted, but not there ({answer}). Look at the destination what became of it",
    "cannot-say": "{answer}",
    "told": "{text}",  # of the first edition
}
