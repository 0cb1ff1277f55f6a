"""Routes of the deep zoom beside Streamlit's: tiles, overlays, and the page that links two slides.

An address holds numbers and names of layers only; which file is read is the ledger's word. The
guard (`dashboard.guard`) stands before all of them.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import QuarantineReason
from appliance.errors import LedgerError, SlideError, SourceChangedError
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import LONGEST_ID, CaseRow, facts_of
from appliance.settings.settings import Settings
from appliance.words.say import say
from dashboard.zoom.described import WHATS, case_json, slides_of
from dashboard.zoom.overlay_tiles import Overlays
from dashboard.zoom.slide_tiles import OpenSlides, slide_tile

STATIC = Path(__file__).parents[1] / "static"
AT_ONCE = 4
"""Tiles that are made at the same time: the appliance needs the other cores."""
CASES_KEPT = 3
"""Cases whose overlays stay in memory."""
KEPT = {"Cache-Control": "private, max-age=3600"}
"""A tile's address names the slide's bytes, or the findings: what it shows never changes."""
NOT_KEPT = {"Cache-Control": "no-store"}
PAGE_RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'self'"
)
"""Content Security Policy of the page: nothing from elsewhere."""


class NotShownError(Exception):
    """What was asked for cannot be shown; the message says why, for people."""


class Zoom:
    """Answers of the routes, from the ledger's read-only door, the slides' files and artifacts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger = LedgerReader(settings.ledger_url)
        self._store = ArtifactStore(settings.artifacts_dir)
        self._slides = OpenSlides(self._store)
        self._overlays = lru_cache(maxsize=CASES_KEPT)(Overlays)

    def tile(self, slide_id: int, level: int, column: int, row: int, version: str) -> Response:
        """Return a tile of a slide as JPEG."""
        with self._reading() as tx:
            slide = tx.slide(slide_id)
        if slide is None or not slide.width_px:
            raise NotShownError("There is no such slide, or it is not identified yet.")
        if not slide.fingerprint.startswith(version):
            raise NotShownError(f"The file of {slide.subject} changed: load the page again.")
        try:
            with self._slides.reading(facts_of(slide)) as reader:
                data = slide_tile(reader, level, column, row)
        except SourceChangedError as err:
            raise NotShownError(
                f"The file of {slide.subject} is not the one that was analyzed, and is not shown."
            ) from err
        except (SlideError, OSError) as err:
            reason = err.reason if isinstance(err, SlideError) else QuarantineReason.UNREADABLE
            raise NotShownError(
                f"The file of {slide.subject} cannot be read now: {say('quarantine', reason)} "
                "Is the scanner's folder mounted, and the file still in it?"
            ) from err
        if data is None:
            raise NotShownError("The slide has no such tile.")
        return Response(data, media_type="image/jpeg", headers=KEPT)

    def overlay(
        self, case_id: int, what: str, layer: str, level: int, column: int, row: int, version: str
    ) -> Response:
        """Return a tile of an overlay as PNG."""
        case = self._case(case_id)
        if not case.findings_key.endswith(version):
            raise NotShownError(f"{case.subject} has a new result: load the page again.")
        overlays = self._overlays(self._folder(case))
        data = overlays.tile(what, layer, level, column, row)
        if data is None:
            raise NotShownError("The case has no such overlay, or the overlay no such tile.")
        return Response(data, media_type="image/png", headers=KEPT)

    def described(self, case_id: int, version: str) -> Response:
        """Return what the page needs of a case, of its present findings whatever the version."""
        row = self._case(case_id)
        overlays = self._overlays(self._folder(row))
        with self._reading() as tx:
            slides = slides_of(tx, row, overlays)
        found = case_json(case_id, overlays, slides, self._settings)
        version = ArtifactKey.parse(row.findings_key).digest
        return JSONResponse(found | {"version": version}, headers=NOT_KEPT)

    def overview(self, case_id: int, what: str, version: str) -> Response:
        """Return the overview picture of a slide, which the findings hold."""
        if what not in WHATS:
            raise NotShownError("A case has the pictures he.png and ihc.png.")
        file = self._folder(self._case(case_id)) / f"{what}_thumbnail.png"
        return FileResponse(file, headers=NOT_KEPT)

    @contextmanager
    def _reading(self) -> Iterator[Queries]:
        if not self._ledger.ready:  # opening it would make an empty file
            raise NotShownError("Tandem has not started yet: start it by tandem run.")
        with self._ledger.reading() as tx:
            yield tx

    def _case(self, case_id: int) -> CaseRow:
        with self._reading() as tx:
            row = tx.case(case_id)
        if row is None:
            raise NotShownError("There is no such case.")
        return row

    def _folder(self, row: CaseRow) -> Path:
        if not row.findings_key:
            raise NotShownError(f"{row.subject} is not scored yet.")
        folder = self._store.path(ArtifactKey.parse(row.findings_key))
        if not folder.is_dir():
            raise NotShownError(
                f"The stored result of {row.subject} is away. Restore artifacts/ of the state "
                "folder."
            )
        return folder


def zoom_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes of the deep zoom."""
    zoom = Zoom(settings)
    answering = partial(_answering, workers=ThreadPoolExecutor(AT_ONCE, "zoom"))
    tile = "/{level:int}/{column:int}_{row:int}"
    return [
        Mount("/zoom-files", StaticFiles(directory=STATIC)),
        Route("/zoom/{case_id:int}", _page),
        Route("/zoom/{case_id:int}/case.json", answering(zoom.described)),
        Route("/zoom/{case_id:int}/{what}.png", answering(zoom.overview)),
        Route(f"/tiles/{{slide_id:int}}{tile}.jpg", answering(zoom.tile)),
        Route(f"/overlays/{{case_id:int}}/{{what}}/{{layer}}{tile}.png", answering(zoom.overlay)),
    ]


async def _page(_request: Request) -> Response:
    headers = NOT_KEPT | {"Content-Security-Policy": PAGE_RULES}
    return FileResponse(STATIC / "zoom.html", headers=headers)


def _answering(
    make: Callable[..., Response], workers: ThreadPoolExecutor
) -> Callable[[Request], object]:
    """Return the endpoint that runs a function in a worker, with the numbers of the address."""

    async def endpoint(request: Request) -> Response:
        named = request.path_params | {"version": request.query_params.get("v", "")}
        if any(value >= 10**LONGEST_ID for value in named.values() if isinstance(value, int)):
            return PlainTextResponse("There is none of this number.", 404, NOT_KEPT)
        try:
            return await get_running_loop().run_in_executor(workers, partial(make, **named))
        except NotShownError as err:
            return PlainTextResponse(str(err), 404, NOT_KEPT)
        except (LedgerError, ValueError) as err:  # no ledger now; findings of another version
            return PlainTextResponse(str(err), 503, NOT_KEPT)

    return endpoint
