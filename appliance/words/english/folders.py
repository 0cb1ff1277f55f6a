"""English sentences on the watched folders: kind ``folder``."""

from __future__ import annotations

from appliance.words.template import OTHER, Params, Words


def _formats(facts: Params) -> str:
    counts = facts["formats"]
    each = ", ".join(f"{suffix} {count}" for suffix, count in counts.items())
    return f"{sum(counts.values())} files of formats that cannot be read here: {each}."


FOLDERS: Words = {
    "missing": "{folder} is not there. Create it, or mount it.",
    "empty": "{folder} is empty, as a mount point without its share. Mount it.",
    "marker": "{folder} lacks the file {marker}, which watch.marker requires. Mount the share.",
    OTHER: "{folder} cannot be listed ({code}). Give Tandem's user the right to read it.",
    "unreadable-folders": (
        "{count} folders below it cannot be listed. Give Tandem's user the right to read them; "
        "mount what a link leads to, or remove the link."
    ),
    "formats": _formats,
}
