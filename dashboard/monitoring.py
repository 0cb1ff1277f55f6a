"""Routes for a monitoring system: ``/metrics``, ``/healthz`` and ``/readyz``; no patient data.

``/healthz`` says that this server answers; ``/readyz`` whether the appliance works, with status 503
and a sentence where it does not.
"""

from __future__ import annotations

from functools import partial

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from appliance.operations.metrics import health, metrics_text
from appliance.settings.settings import Settings
from dashboard.answers import NOT_KEPT


def monitoring_routes(settings: Settings) -> list[BaseRoute]:
    """Return the routes; the guard (`dashboard.guard`) stands before them."""
    return [
        Route("/healthz", partial(_answers, settings)),
        Route("/readyz", partial(_ready, settings)),
        Route("/metrics", partial(_metrics, settings)),
    ]


async def _answers(_settings: Settings, _request: Request) -> Response:
    return PlainTextResponse("This server answers.\n", headers=NOT_KEPT)


async def _ready(settings: Settings, _request: Request) -> Response:
    found = await run_in_threadpool(health, settings)
    status = 200 if found.ready else 503
    return PlainTextResponse(f"{found.outside or found.sentence}\n", status, headers=NOT_KEPT)


async def _metrics(settings: Settings, _request: Request) -> Response:
    text = await run_in_threadpool(metrics_text, settings)
    return Response(text, media_type=CONTENT_TYPE_LATEST, headers=NOT_KEPT)
