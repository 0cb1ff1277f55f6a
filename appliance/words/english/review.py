"""Why a person should look at a case: kind ``review``."""

from __future__ import annotations

from appliance.words.template import OTHER, Words

REVIEW: Words = {
    # Findings that were saved with their sentence.
    OTHER: "{sentence}",
}
