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
from appliance.delivery.objects import PAGE_NAME
from appliance.settings.settings import Settings
from dashboard.answers import NOT_KEPT, Door, NotShownError, answers
from dashboard.stored import ResultDamagedError, require_sound

SCALE = 1.6
"""Px of the picture per point of the page: A4 is 950 px wide."""


def report_file(objects_key: str, settings: Settings) -> Path | None:
    """Return the report page of a case's objects; None where there is none."""
    if not objects_key:
        return None
    file = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(objects_key)) / PAGE_NAME
    return file if file.is_file() else None


class Reports:
    """Answers of the routes."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._door = settings, Door(settings)

    def pdf(self, case_id: int, version: str) -> Response:
        """Return the report page of the case's present objects, whatever the version."""
        headers = NOT_KEPT | {"Content-Disposition": f'inline; filename="case-{case_id}.pdf"'}
        return FileResponse(self._file(case_id), media_type="application/pdf", headers=headers)

    def picture(self, case_id: int, version: str) -> Response:
        """Return the first page as PNG."""
        data = BytesIO()
        with PdfDocument(self._file(case_id)) as document:
            document[0].render(scale=SCALE).to_pil().save(data, "PNG")
        return Response(data.getvalue(), media_type="image/png", headers=NOT_KEPT)

    def _file(self, case_id: int) -> Path:
        file = report_file(self._door.case(case_id).objects_key, self._settings)
        if file is None:
            raise NotShownError(f"case-{case_id} has no report page, or not yet.")
        try:
            require_sound(file)
        except ResultDamagedError as err:
            raise NotShownError(
                f"The report page of case-{case_id} is damaged ({err}): tandem rerun "
                f"case-{case_id} makes it again."
            ) from err
        return file


def report_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes of the reports."""
    reports = Reports(settings)
    # PDFium is not safe on several threads.
    answering = partial(answers, workers=ThreadPoolExecutor(1, "reports"))
    return [
        Route("/reports/{case_id:int}.pdf", answering(reports.pdf)),
        Route("/reports/{case_id:int}.png", answering(reports.picture)),
    ]
