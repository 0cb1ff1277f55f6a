"""Routes of the deep zoom beside Streamlit's: tiles, overlays, and the page that links two slides.

An address holds numbers and names of layers only; which file is read is the ledger's word. The
guard (`dashboard.guard`) stands before all of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import QuarantineReason, Stain
from appliance.errors import SlideError, SourceChangedError
from appliance.ledger.tables import CaseRow, facts_of
from appliance.settings.settings import Settings
from appliance.words.say import say
from dashboard.answers import NOT_KEPT, Door, NotShownError, answers
from dashboard.interim import hint_folder
from dashboard.stored import ResultDamagedError, require_sound
from dashboard.zoom.described import WHATS, case_json, slides_of
from dashboard.zoom.overlay_tiles import Overlays
from dashboard.zoom.slide_tiles import OpenSlides, slide_tile

STATIC = Path(__file__).parents[1] / "static"
AT_ONCE = 4
"""Tiles that are made at the same time: the appliance needs the other cores."""
CASES_KEPT = 3
"""Cases whose overlays stay in memory."""
SMALL_PX, SMALL_KEPT = 144, 500
"""Longest edge of a small picture, twice that on the page; how many stay in memory, of 5 kB."""
KEPT = {"Cache-Control": "private, max-age=3600"}
"""A tile's address names the slide's bytes, or the findings: what it shows never changes."""
PAGE_RULES = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'self'"
)
"""Content Security Policy of the page: nothing from elsewhere."""


class Zoom:
    """Answers of the routes, from the ledger's read-only door, the slides' files and artifacts."""

    def __init__(self, settings: Settings) -> None:
        self._door = Door(settings)
        self._store = ArtifactStore(settings.artifacts_dir)
        self._slides = OpenSlides(self._store)
        self._overlays = lru_cache(maxsize=CASES_KEPT)(Overlays)
        self._small = lru_cache(maxsize=SMALL_KEPT)(small_picture)

    def tile(self, slide_id: int, level: int, column: int, row: int, version: str) -> Response:
        """Return a tile of a slide as JPEG."""
        with self._door.reading() as tx:
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
        case = self._door.case(case_id)
        if not case.findings_key.endswith(version):
            raise NotShownError(f"{case.subject} has a new result: load the page again.")
        overlays = self._overlays_of(case)
        data = overlays.tile(what, layer, level, column, row)
        if data is None:
            raise NotShownError("The case has no such overlay, or the overlay no such tile.")
        return Response(data, media_type="image/png", headers=KEPT)

    def described(self, case_id: int, version: str) -> Response:
        """Return what the page needs of a case, of its present findings whatever the version."""
        row = self._door.case(case_id)
        overlays = self._overlays_of(row)
        with self._door.reading() as tx:
            slides = slides_of(tx, row, overlays)
        found = case_json(case_id, overlays, slides)
        version = ArtifactKey.parse(row.findings_key).digest
        return JSONResponse(found | {"version": version}, headers=NOT_KEPT)

    def overview(self, case_id: int, what: str, version: str) -> Response:
        """Return the overview picture of a slide, which the findings hold."""
        if what not in WHATS:
            raise NotShownError("A case has the pictures he.png and ihc.png.")
        row = self._door.case(case_id)
        file = self._folder(row) / f"{what}_thumbnail.png"
        with _told(row):
            require_sound(file)
        return FileResponse(file, headers=NOT_KEPT)

    def thumbnail(self, case_id: int, version: str) -> Response:
        """Return a small picture of the scored slide, of the findings that `version` names."""
        row = self._door.case(case_id)
        if not row.findings_key.endswith(version):
            raise NotShownError(f"{row.subject} has a new result: load the page again.")
        with _told(row):
            small = self._small(self._folder(row) / "ihc_thumbnail.png")
        return Response(small, media_type="image/jpeg", headers=KEPT)

    def _overlays_of(self, row: CaseRow) -> Overlays:
        folder = self._folder(row)
        with self._door.reading() as tx:
            stain = Stain(row.anatomy)
            slide = tx.current_slides(row.accession, row.block, (stain,)).get(stain)
            interim = None if slide is None else hint_folder(tx, slide, row.assay, self._store)
        with _told(row):
            return self._overlays(folder, interim)

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
    answering = partial(answers, workers=ThreadPoolExecutor(AT_ONCE, "zoom"))
    tile = "/{level:int}/{column:int}_{row:int}"
    return [
        Mount("/zoom-files", StaticFiles(directory=STATIC)),
        Route("/zoom/{case_id:int}", _page),
        Route("/zoom/{case_id:int}/case.json", answering(zoom.described)),
        Route("/zoom/{case_id:int}/{what}.png", answering(zoom.overview)),
        Route("/thumbs/{case_id:int}.jpg", answering(zoom.thumbnail)),
        Route(f"/tiles/{{slide_id:int}}{tile}.jpg", answering(zoom.tile)),
        Route(f"/overlays/{{case_id:int}}/{{what}}/{{layer}}{tile}.png", answering(zoom.overlay)),
    ]


@contextmanager
def _told(row: CaseRow) -> Iterator[None]:
    """Say the remedy where a stored result is damaged."""
    try:
        yield
    except ResultDamagedError as err:
        raise NotShownError(
            f"The stored result of {row.subject} is damaged ({err}): tandem rerun {row.subject} "
            "makes it again."
        ) from err


def small_picture(file: Path) -> bytes:
    """Return a picture of an artifact as a small JPEG.

    Raises
    ------
    ResultDamagedError
        If the picture is gone, or is not what was written.
    """
    require_sound(file)
    with Image.open(file) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SMALL_PX, SMALL_PX))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    return data.getvalue()


async def _page(_request: Request) -> Response:
    headers = NOT_KEPT | {"Content-Security-Policy": PAGE_RULES}
    return FileResponse(STATIC / "zoom.html", headers=headers)
