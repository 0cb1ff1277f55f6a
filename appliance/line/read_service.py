"""``POST /read``: opinions on one slide for programs on this machine (``tandem read-service``).

The service listens on 127.0.0.1, asks each request for a token, and reads one slide at a time in a
process of its own, so that a slide that ends it ends nothing else. It has no ledger and writes no
score: a file goes in, the opinions of the readers come out.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from appliance.delivery.frozen import signature
from appliance.domain import Stain
from appliance.errors import (
    SettingsError,
    SlideError,
    TandemError,
    TookTooLongError,
    WorkerDiedError,
    text_of,
)
from appliance.line.child import Child, Limits
from appliance.line.executors import NICE
from appliance.line.slide_opinions import asked_of, opinions_on
from appliance.settings.read_service import ReadService
from appliance.settings.secrets import handed_over
from appliance.settings.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse

log = logging.getLogger(__name__)
T = TypeVar("T")

ADDRESS = "127.0.0.1"
UPLOADS = "uploads"
"""Folder of uploaded slides in the state folder; each is removed when it was read."""
END_SECONDS = 5
"""Longest time that requests have to end when the service is stopped."""
LOOK_BYTES = 1 << 26
"""Bytes of an upload between two looks at the room that is left."""
LOOK_SECONDS = 1.0
"""Time between two looks at whether the client of a request is still there."""
CHUNK_SECONDS = 60.0
"""Longest time between two parts of a body: an upload that stands still keeps no place."""
LEAST_TOKEN = 16
"""Characters of the shortest token: one that nobody guesses."""
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")
_DEADLINE_S, _DEADLINE_S_PER_GIB = 3600.0, 4 * 3600.0


class RefusedError(Exception):
    """A request that is not carried out: HTTP status, and a sentence for its sender."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


def run_read_service(settings: Settings) -> None:
    """Serve until stopped (SIGTERM or Ctrl-C).

    Raises
    ------
    SettingsError
        If the settings have no `[read_service]`, or its token cannot be used.
    """
    import uvicorn

    section = section_of(settings)
    read_token(section)
    app = read_app(settings)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.service.abandon()  # else it ends when the slide is read
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app, host=ADDRESS, port=section.port, log_config=None, access_log=False,
        timeout_graceful_shutdown=END_SECONDS,
    )  # fmt: skip
    taken = config.bind_socket()  # ends the program where another one has the port
    # What a service left that was killed while it had a slide.
    shutil.rmtree(settings.state_dir / UPLOADS, ignore_errors=True)
    log.info("reading slides for this machine on port %d", section.port)
    Server(config).run(sockets=[taken])


def section_of(settings: Settings) -> ReadService:
    """Return the service's section.

    Raises
    ------
    SettingsError
        If there is none: the service is off.
    """
    if settings.read_service is None:
        raise SettingsError(
            "The read service is off. Add a section [read_service] with token_file to tandem.toml."
        )
    return settings.read_service


def read_token(section: ReadService) -> str:
    """Return the token, read at each use.

    Raises
    ------
    SettingsError
        If the file cannot be read, or holds no ASCII token of at least `LEAST_TOKEN` characters.
    """
    file = handed_over(section.token_file)
    try:
        token = file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise SettingsError(f"token_file of the read service: {file} cannot be read") from err
    # A header of HTTP has other bytes for letters beyond ASCII.
    if len(token) < LEAST_TOKEN or not token.isascii() or any(c.isspace() for c in token):
        raise SettingsError(
            f"token_file of the read service: {file} needs one line of at least {LEAST_TOKEN} "
            "letters and digits of ASCII. Make one: openssl rand -hex 32"
        )
    return token


def read_app(settings: Settings) -> Starlette:
    """Return the application with its one route."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    service = _Service(settings)

    async def read(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await service.answer(request))
        except RefusedError as err:
            # What is left of a body that stands still is not waited for.
            closed = {"Connection": "close"} if err.status == 408 else None
            return JSONResponse({"error": str(err)}, status_code=err.status, headers=closed)

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    app = Starlette(routes=[Route("/read", read, methods=["POST"])], lifespan=life)
    app.state.service = service
    return app


class _Service:
    """Process that reads, and the requests that wait for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._section = settings, section_of(settings)
        self._stop = threading.Event()
        self._child = Child(settings.logging, self._stop, settings.extensions, NICE["gpu"])
        self._turn = asyncio.Lock()
        self._there, self._is_over = 0, False

    async def answer(self, request: Request) -> dict[str, Any]:
        """Return the opinions on the request's slide.

        Raises
        ------
        RefusedError
        """
        self._admit(request)
        if self._there > self._section.waiting:
            raise RefusedError(503, "Other slides are being read. Try again later.")
        self._there += 1
        try:
            with tempfile.TemporaryDirectory(dir=self._uploads()) as work:
                kind = request.headers.get("content-type", "").lower()
                if kind.startswith("application/json"):
                    path, stain = await self._named(request)
                else:
                    stain = Stain(request.query_params.get("stain", ""))
                    path = await self._uploaded(request, stain, Path(work))
                await self._wait_for_turn(request)
                try:
                    return await self._read(request, path, stain, Path(work))
                finally:
                    self._turn.release()
        finally:
            self._there -= 1

    def abandon(self) -> None:
        """Abandon the slide that is being read, and read no other one."""
        self._is_over = True
        self._stop.set()

    def close(self) -> None:
        """End the process."""
        self.abandon()
        self._child.close()

    async def _wait_for_turn(self, request: Request) -> None:
        """Wait until no other slide is read; give up the place of a client that left."""
        turn = asyncio.ensure_future(self._turn.acquire())
        try:
            await _while_there(request, turn)
        except BaseException:
            if not turn.cancel():  # it came meanwhile
                self._turn.release()
            raise

    async def _read(self, request: Request, path: Path, stain: Stain, work: Path) -> dict[str, Any]:
        """Return the opinions; abandon the slide of a client that left."""
        reading = asyncio.ensure_future(asyncio.to_thread(self._in_child, path, stain, work))
        try:
            return await _while_there(request, reading)
        finally:
            if not reading.done():
                # The thread that waits for the process ends it: two would be in each other's way.
                self._stop.set()
            await asyncio.gather(reading, return_exceptions=True)
            self._stop.clear()
            if self._is_over:  # the signal may come between any two lines
                self._stop.set()

    def _admit(self, request: Request) -> None:
        # A page in a browser of this machine may have a name that leads here.
        host = request.headers.get("host", "").partition(":")[0]  # a port of 80 is not named
        if host not in (ADDRESS, "localhost"):
            raise RefusedError(421, f"Ask for {ADDRESS}.")
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        try:
            token = read_token(self._section)
        except SettingsError as err:
            raise RefusedError(503, "The service's token cannot be read.") from err
        if kind.lower() != "bearer" or not hmac.compare_digest(shown.encode(), token.encode()):
            raise RefusedError(401, "Show the token: Authorization: Bearer …")

    async def _named(self, request: Request) -> tuple[Path, Stain]:
        """Return the file and the stain that a JSON body names; only watched folders are read."""
        wanted = 'Send {"path": "…", "stain": "…"}.'
        body = b""
        async for chunk in _parts(request):
            body += chunk
            if len(body) > 65536:
                raise RefusedError(413, wanted)
        try:
            name, stain = _facts_of(body)
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise RefusedError(400, wanted) from err
        return await asyncio.to_thread(self._watched, name), Stain(stain)

    def _watched(self, name: str) -> Path:
        """Return the file of a name; in a thread: a share may be slow."""
        try:
            real = Path(name).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as err:  # ValueError: no name that a file has
            raise RefusedError(404, "No such file.") from err
        roots = [root.resolve() for root in self._settings.watch.roots]
        if not any(real.is_relative_to(root) for root in roots):
            raise RefusedError(403, "Only slides in the watched folders are read by path.")
        if not real.is_file():
            raise RefusedError(400, "Name a file: this is a folder, or no regular file.")
        return real

    async def _uploaded(self, request: Request, stain: Stain, folder: Path) -> Path:
        """Return the file that a body was written to; what it is read for is checked before."""
        suffix = _SUFFIX.search(request.query_params.get("name", ""))
        if suffix is None:
            raise RefusedError(400, "Name the file: POST /read?name=slide.svs&stain=…")
        try:
            await asyncio.to_thread(asked_of, stain, self._settings)
        except SettingsError as err:
            raise RefusedError(400, str(err)) from err
        path = folder / f"slide{suffix[0]}"
        most, taken, looked = int(self._section.largest_gib * 2**30), 0, 0
        try:
            with path.open("wb") as stream:
                async for chunk in _parts(request):
                    taken += len(chunk)
                    if taken > most:
                        limit = f"{self._section.largest_gib:g} GiB"
                        raise RefusedError(413, f"A slide may have {limit} (largest_gib).")
                    if taken - looked > LOOK_BYTES:  # the line's room is not to be taken
                        self._require_room(folder)
                        looked = taken
                    await asyncio.to_thread(stream.write, chunk)
        except OSError as err:
            raise RefusedError(507, f"The slide cannot be kept: {err.strerror}.") from err
        return path

    def _uploads(self) -> Path:
        folder = self._settings.state_dir / UPLOADS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_room(folder)
        except OSError as err:
            raise RefusedError(507, f"The slide cannot be kept: {err.strerror}.") from err
        return folder

    def _require_room(self, folder: Path) -> None:
        if shutil.disk_usage(folder).free < self._settings.low_disk_gib * 2**30:
            raise RefusedError(507, "The disk of the state folder is nearly full (low_disk_gib).")

    def _in_child(self, path: Path, stain: Stain, work: Path) -> dict[str, Any]:
        lanes = self._settings.lanes
        try:
            gib = sum(size for size, *_ in signature(path)) / 2**30
            limits = Limits(
                deadline_s=lanes.deadline_factor * (_DEADLINE_S + _DEADLINE_S_PER_GIB * gib),
                silent_s=lanes.silent_seconds,
            )
            found: dict[str, Any] = self._child.run(
                limits, opinions_on, path, stain, self._settings, work, limits.deadline_s / 2
            )
            return found
        except SlideError as err:
            raise RefusedError(422, f"{err.reason}: {err}") from err
        except SettingsError as err:
            raise RefusedError(400, str(err)) from err
        except TookTooLongError as err:
            raise RefusedError(504, str(err)) from err
        except WorkerDiedError as err:
            raise RefusedError(422, "The slide ended the process that read it.") from err
        except TandemError as err:
            raise RefusedError(503, text_of(err)) from err
        except OSError as err:
            raise RefusedError(503, f"The slide cannot be read now: {err.strerror}.") from err
        except Exception as err:  # boundary of the request; messages of libraries hold paths
            log.error("a slide could not be read: %s", type(err).__name__)
            log.debug("details", exc_info=err)
            raise RefusedError(500, f"The slide cannot be read: {type(err).__name__}.") from err


async def _while_there(request: Request, wanted: asyncio.Future[T]) -> T:
    """Wait for a result.

    Raises
    ------
    RefusedError
        If the client left; `wanted` goes on.
    """
    while True:
        await asyncio.wait({wanted}, timeout=LOOK_SECONDS)
        if await request.is_disconnected():  # also where its turn has just come
            raise RefusedError(499, "The client left.")
        if wanted.done():
            return wanted.result()


async def _parts(request: Request) -> AsyncIterator[bytes]:
    """Yield the parts of a body.

    Raises
    ------
    RefusedError
        If the client left, or sends nothing for `CHUNK_SECONDS`.
    """
    from starlette.requests import ClientDisconnect

    parts = request.stream()
    while True:
        try:
            async with asyncio.timeout(CHUNK_SECONDS):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError as err:
            raise RefusedError(408, "The request stood still. Send it again.") from err
        except ClientDisconnect as err:
            raise RefusedError(499, "The client left.") from err
        yield part


def _facts_of(body: bytes) -> tuple[str, str]:
    """Return path and stain of a JSON body."""
    facts = json.loads(body)
    path, stain = facts["path"], facts["stain"]
    if not isinstance(path, str) or not isinstance(stain, str) or "\0" in path:
        raise ValueError("path and stain are text")
    return path, stain
