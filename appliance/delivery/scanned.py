"""Slides that the scanner wrote as DICOM: their files, found and guarded while they are sent.

The outbox names an image by the header that was frozen of it (``source/DIGEST/00.dcm``). What is
sent is the scanner's own file, as it is, and only while the slide is the one that was identified.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.destinations.contract import Instance
from appliance.delivery.frozen import SOURCE, same_source
from appliance.delivery.intact import instance_of
from appliance.domain import SlideFacts
from appliance.errors import SlideError, SourceChangedError
from appliance.ledger.ledger import Ledger
from appliance.ledger.queries import SLIDE_CHANGED
from appliance.ledger.tables import DeliveryRow, facts_of
from appliance.settings.settings import Settings
from appliance.slides.files import slide_files
from appliance.slides.places import place_of
from dicom.header import read_instance_uid

GONE = "slide-gone"
"""Code of the trouble of an image whose file is not there; words of kind ``delivery``."""


def is_scanned(row: DeliveryRow) -> bool:
    """Return whether a delivery is of an image that the scanner wrote as DICOM."""
    return row.path.startswith(f"{SOURCE}/")


class ScannedFiles:
    """Files of the scanner's images that are about to be sent; one is read at a time."""

    def __init__(self, ledger: Ledger, settings: Settings, *, sent: bool) -> None:
        """Find files only where images are `sent`, and not merely asked for."""
        self._ledger, self._settings, self._sent = ledger, settings, sent
        self._store = ArtifactStore(settings.artifacts_dir)
        self._found: dict[str, tuple[Path, SlideFacts]] = {}
        self._guard = ExitStack()

    def find(self, row: DeliveryRow) -> str:
        """Find the file of an image; return the code of the trouble that keeps it, empty for none.

        Bytes are compared where a slide's files have a signature that was not seen before.
        """
        trouble = SLIDE_CHANGED
        for facts in self._slides_of(row):
            try:
                with same_source(facts, self._store):
                    files = slide_files(place_of(facts.path))
                    uid = row.sop_instance_uid
                    file = next((each for each in files if read_instance_uid(each) == uid), None)
            except (SlideError, OSError):
                trouble = GONE  # perhaps a share is away
            except SourceChangedError:
                continue
            else:
                if file is not None:
                    self._found[uid] = (file, facts)
                    return ""
        return trouble

    def _slides_of(self, row: DeliveryRow) -> list[SlideFacts]:
        """Return the slides of the row's cases that its header was frozen of."""
        header = row.path.rpartition("/")[0]
        with self._ledger.transaction() as tx:
            cases = [tx.case(case_id) for case_id in tx.cases_of_deliveries([row])]
            blocks = {(case.accession, case.block) for case in cases if case is not None}
            slides = [slide for block in blocks for slide in tx.slides_of_block(*block)]
        return [
            facts_of(slide)
            for slide in slides
            if str(ArtifactKey.of(SOURCE, slide=slide.fingerprint)) == header
        ]

    def instance(self, row: DeliveryRow) -> Instance:
        """Return the instance of a delivery: the scanner's file, where it was found.

        The checksum of a scanner's file is not known.
        """
        frozen = instance_of(row, self._settings)
        if not is_scanned(row):
            return frozen
        uid = row.sop_instance_uid
        if self._sent and uid not in self._found:
            self.find(row)
        path = self._found[uid][0] if uid in self._found else frozen.path
        return Instance(path=path, ref=frozen.ref)

    def begin(self, row: DeliveryRow) -> None:
        """Guard an image that is sent now, until `end`.

        Raises
        ------
        SourceChangedError, SlideError
            If its file is another one, or gone, since it was found.
        """
        if row.sop_instance_uid in self._found:
            facts = self._found[row.sop_instance_uid][1]
            self._guard.enter_context(same_source(facts, self._store))

    def end(self) -> bool:
        """End the guard; return whether the slide stayed the same while it was sent."""
        try:
            self._guard.close()
        except (SourceChangedError, SlideError):
            return False
        return True

    def abandon(self) -> None:
        """End the guard of an image that was not sent."""
        with suppress(SourceChangedError, SlideError):
            self._guard.close()
