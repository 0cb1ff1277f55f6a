"""Settings of the laboratory's orders that come as files: a CSV table, and HL7 messages."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from appliance.settings.section import Section, SomePath

COLUMNS: dict[str, tuple[str, ...]] = {
    "accession": (
        *("accession", "accession number", "accession no", "case", "case number", "order number"),
        *("Fallnummer", "Fall-Nr", "Auftragsnummer", "Auftrags-Nr", "Eingangsnummer", "E-Nummer"),
        *("Einsendenummer", "Histologienummer", "Histo-Nr", "Journalnummer", "Journal-Nr"),
    ),
    "patient_id": (
        *("patient id", "patient number", "patient no", "pid", "mrn", "medical record number"),
        *("Patientennummer", "Patienten-ID", "Patienten-Nr", "Pat-ID", "Pat-Nr"),
    ),
    "issuer": (
        *("issuer", "issuer of patient id", "patient id issuer", "assigning authority"),
        *("Aussteller", "Mandant"),
    ),
    "name": ("name", "patient name", "patient", "Patientenname"),
    "family_name": (
        *("family name", "last name", "surname", "Nachname", "Familienname", "Zuname"),
    ),
    "given_name": ("given name", "first name", "forename", "Vorname"),
    "birth_date": (
        *("birth date", "date of birth", "dob", "birthday", "patient birth date"),
        *("Geburtsdatum", "Geburtstag", "Geb-Datum", "geb", "geb am", "geboren"),
    ),
    "sex": ("sex", "gender", "patient sex", "Geschlecht"),
    "other_ids": ("other ids", "other patient ids", "weitere IDs", "weitere Patienten-IDs"),
    "study_uid": ("study uid", "study instance uid", "Studien-UID"),
    "accession_issuer": ("accession issuer", "issuer of accession number"),
    "placer": ("placer", "placer number", "placer order number", "Auftraggebernummer"),
    "filler": ("filler", "filler number", "filler order number"),
    "procedure_id": ("procedure id", "requested procedure id", "Leistungs-ID", "Anforderungs-ID"),
    "block": ("block", "block id", "block number", "Blocknummer", "Block-Nr"),
    "specimen": ("specimen", "specimen id", "Probe", "Proben-ID", "Probennummer", "Präparat"),
    "container": (
        *("container", "container id", "container identifier", "slide id", "barcode"),
        *("Objektträger", "Schnitt-ID", "Objektträger-ID"),
    ),
    "stain": (
        *("stain", "stains", "staining", "procedure", "requested procedure", "test", "tests"),
        *("Färbung", "Färbungen", "Untersuchung", "Leistung"),
    ),
}
"""Names of columns that are known, by what they hold. Case, spaces and signs do not count."""

LOOSE_COLUMNS = (
    *("case", "case number", "order number"),
    *("Fallnummer", "Fall-Nr", "Auftragsnummer", "Auftrags-Nr"),
)
"""Names of the accession in some tables, and of a stay or of a request in others: a column of
another name comes first."""

_FIELD = re.compile(r"[A-Z][A-Z0-9]{2}-\d{1,2}")


class Orders(Section):
    """Orders as files, beside the worklist or instead of it. Tandem reads these files only."""

    csv: SomePath | None = None
    """Table of the orders, one row for each order, block or slide. It is read again when it
    changes."""
    columns: dict[str, str] = Field(default={})
    """Names of the table's columns where they are none of those that are known (docs/orders.md):
    ``columns = {accession = "Nr."}``."""
    date: str = ""
    """Format of the dates of birth in the table, such as ``%d/%m/%Y``. Empty: year, month, day, or
    day.month.year with points."""
    general: tuple[str, ...] = ()
    """Texts of procedures that ask for all stains of a case, such as ``["Breast biopsy"]``. Numbers
    of such an order are those of each result where no order names the stain itself."""
    hl7: SomePath | None = None
    """Folder of HL7 v2 messages, one or several in each file: OML^O21, OML^O33, ORM^O01."""
    hl7_accession: tuple[str, ...] = ("OBR-18", "SPM-30", "OBR-3", "ORC-3", "OBR-2", "ORC-2")
    """Fields of the messages that may hold the accession; the first one that is filled holds it."""
    hl7_days: Annotated[float, Field(gt=0)] = 90.0
    """Age in days above which files of the folder are not read."""

    @field_validator("columns")
    @classmethod
    def _columns_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = sorted(name for name in value if name not in COLUMNS)
        if wrong:
            raise ValueError(f"{wrong[0]!r} is none of {', '.join(COLUMNS)}")
        return value

    @field_validator("hl7_accession")
    @classmethod
    def _fields_are_well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in value if not _FIELD.fullmatch(name)]
        if wrong or not value:
            raise ValueError(f"{wrong[:1] or 'nothing'} is no field such as OBR-18")
        return value
