"""Answers of the routes beside Streamlit's; a sentence where there is nothing to show."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from appliance.errors import LedgerError
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import LONGEST_ID, CaseRow
from appliance.settings.settings import Settings

NOT_KEPT = {"Cache-Control": "no-store"}


class NotShownError(Exception):
    """Error where a thing cannot be shown; the message says why, for people."""


class Door:
    """The ledger's read-only door, for the threads of the routes."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = LedgerReader(settings.ledger_url)

    @contextmanager
    def reading(self) -> Iterator[Queries]:
        """Open one consistent view of the ledger; raises NotShownError where there is none yet."""
        if not self._ledger.ready:  # opening it would make an empty file
            raise NotShownError("Tandem has not started yet: start it by tandem run.")
        with self._ledger.reading() as tx:
            yield tx

    def case(self, case_id: int) -> CaseRow:
        """Return a case; raises NotShownError where there is none."""
        with self.reading() as tx:
            row = tx.case(case_id)
        if row is None:
            raise NotShownError("There is no such case.")
        return row


def answers(make: Callable[..., Response], workers: Executor) -> Callable[[Request], object]:
    """Return the endpoint that runs a function in a worker, with the numbers of the address.

    The function is also given ``version``, the parameter ``v`` of the address.
    """

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
        except OSError:  # a path is in its words
            told = "What is stored cannot be read now: tandem doctor says why."
            return PlainTextResponse(told, 503, NOT_KEPT)

    return endpoint
