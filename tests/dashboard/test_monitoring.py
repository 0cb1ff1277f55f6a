"""Routes for a monitoring system: a probe's two questions, and the figures."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from appliance.ledger.heartbeat import LaneSign, Sign, boot_id, born, write_sign
from appliance.ledger.ledger import Ledger
from appliance.settings.settings import Settings
from dashboard.guard import Guard
from dashboard.monitoring import monitoring_routes


def test_a_probe_is_told_whether_work_goes_on(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    app = Starlette(routes=monitoring_routes(settings), middleware=[Middleware(Guard)])
    client = TestClient(app, base_url="http://127.0.0.1:8501")
    assert client.get("/healthz").status_code == 200
    never = client.get("/readyz")
    assert never.status_code == 503 and "has not run here yet" in never.text
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.add_slide("S26-1_A1_HE.svs", now=1.0)
    ledger.close()
    now = time.time()
    sign = Sign(
        at=now, monotonic=time.monotonic(), boot=boot_id(), pid=os.getpid(),
        born=born(os.getpid()), started=now,
    )  # fmt: skip
    write_sign(settings, sign)
    assert client.get("/readyz").status_code == 200
    figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    read = {
        sample.name: sample.value
        for family in text_string_to_metric_families(figures.text)
        for sample in family.samples
    }
    assert read["tandem_alive"] == read["tandem_slides"] == 1
    assert "S26" not in figures.text
    away = LaneSign(doing="", since=now, trouble="/spool/S26-1_A1_HE.svs: No space left on device")
    write_sign(
        settings, replace(sign, lanes={"work list": away, "scan": replace(away, trouble="")})
    )
    held = client.get("/readyz")
    assert held.status_code == 503
    assert held.text == "Tandem runs, held up in part: work list.\n"
    write_sign(settings, replace(sign, ended="it received SIGTERM."))
    stopped = client.get("/readyz")
    assert stopped.status_code == 503 and "SIGTERM" in stopped.text


def test_a_foreign_name_is_refused_here_too(tmp_path: Path) -> None:
    routes = monitoring_routes(Settings(state_dir=tmp_path))
    app = Starlette(routes=routes, middleware=[Middleware(Guard)])
    foreign = TestClient(app, base_url="http://rebound.example")
    assert foreign.get("/metrics").status_code == 403
