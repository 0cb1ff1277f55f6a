"""Routes of a case's report: the page as PDF, and its first page as a picture for the screen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

from pypdfium2 import PdfDocument
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.index import INDEX_NAME, read_contents
from appliance.delivery.objects import PAGE_NAME
from appliance.settings.settings import Settings
from dashboard.answers import NOT_KEPT, Door, NotShownError, answers
from dashboard.stored import require_sound

SCALE = 1.6
"""Px of the picture per point of the page: A4 is 950 px wide."""


def report_file(subject: str, findings_key: str, objects_key: str, settings: Settings) -> Path:
    """Return the report page of a case's result.

    Raises
    ------
    NotShownError
        If there is none, it is damaged, or it is of a former result: a case that loses its result
        keeps the objects of it, so that the next report names its predecessor.
    """
    if not objects_key:
        raise NotShownError(f"{subject} has no report page, or not yet.")
    file = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key)) / PAGE_NAME
    if not file.is_file():
        raise NotShownError(f"{subject} has no report page, or not yet.")
    try:
        require_sound(file)
        require_sound(file.with_name(INDEX_NAME))
        made_from = read_contents(objects_key, settings)["made_from"]["findings"]
    except (ValueError, LookupError) as err:
        raise NotShownError(
            f"The report page of {subject} is damaged ({err}): tandem rerun {subject} makes it "
            "again."
        ) from err
    if made_from != findings_key:
        raise NotShownError(
            f"The report page of {subject} is of a former result, which is not in force. The next "
            "result brings its own."
        )
    return file


class Reports:
    """Answers of the routes."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._door = settings, Door(settings)

    def pdf(self, case_id: int, version: str) -> Response:
        """Return the report page of the case's present result, whatever the version."""
        headers = NOT_KEPT | {"Content-Disposition": f'inline; filename="case-{case_id}.pdf"'}
        return FileResponse(self._file(case_id), media_type="application/pdf", headers=headers)

    def picture(self, case_id: int, version: str) -> Response:
        """Return the first page as PNG."""
        data = BytesIO()
        with PdfDocument(self._file(case_id)) as document:
            document[0].render(scale=SCALE).to_pil().save(data, "PNG")
        return Response(data.getvalue(), media_type="image/png", headers=NOT_KEPT)

    def _file(self, case_id: int) -> Path:
        case = self._door.case(case_id)
        return report_file(case.subject, case.findings_key, case.objects_key, self._settings)


def report_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes of the reports."""
    reports = Reports(settings)
    # PDFium is not safe on several threads.
    answering = partial(answers, workers=ThreadPoolExecutor(1, "reports"))
    return [
        Route("/reports/{case_id:int}.pdf", answering(reports.pdf)),
        Route("/reports/{case_id:int}.png", answering(reports.picture)),
    ]
