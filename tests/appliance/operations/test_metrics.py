"""Figures for Prometheus: what they say of a ledger, who can read them, and the alerts on them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from fixtures.daemon import tandem
from fixtures.judges import require_judge
from fixtures.orthanc import free_port
from fixtures.pairings import HER2_PAIR
from prometheus_client.parser import text_string_to_metric_families

from appliance.domain import HE, HER2, Identity
from appliance.ledger.backups import make_backup
from appliance.ledger.heartbeat import LaneSign, Sign, boot_id, born, write_sign
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import set_reason
from appliance.ledger.transaction import NewDelivery
from appliance.operations.alert_causes import causes_of_ledger
from appliance.operations.metrics import health, metrics_text
from appliance.settings.settings import Settings

MONITORING = Path(__file__).parents[3] / "monitoring"
prometheus = pytest.mark.usefixtures("promtool")
ACCESSION, PATIENT_FILE = "S26-77001", "S26-77001_Müller_A1_HER2.svs"


@pytest.fixture
def promtool() -> None:
    require_judge("promtool")


@pytest.fixture(autouse=True)
def _long_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sign count for as long as a busy machine takes to read it."""
    monkeypatch.setattr("appliance.ledger.heartbeat.SILENT_SECONDS", 1e9)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    settings.state_dir.mkdir()
    made = Ledger(settings.ledger_url)
    with made.transaction() as tx:
        for number, stain in enumerate((HE, HER2, HER2)):
            name = PATIENT_FILE if number else f"{ACCESSION}_A1_HE.svs"
            row = tx.add_slide(f"{number}/{name}", now=100.0)
            row.accession, row.block, row.stain = ACCESSION, "A1", str(stain)
            if number == 2:
                set_reason(row, "damaged")
                tx.advance(row, SlideState.QUARANTINED, now=200.0, reason="damaged")
        case = tx.case_for(Identity(accession=ACCESSION, block="A1", stain=HE), 100.0, HER2_PAIR)
        tx.advance(case, CaseState.READY, now=time.time() - 50)
        tx.advance(case, CaseState.ALIGNED, now=time.time() - 45)
        case.score, case.review = "2+", '[{"code": "few-cells", "params": {}}]'
        tx.advance(case, CaseState.SCORED, now=time.time() - 40)
    yield made
    made.close()


def sign(ended: str = "", trouble: str = "", pid: int = 1) -> Sign:
    now = time.time()
    lane = LaneSign(doing="reads", since=now, trouble=trouble)
    return Sign(
        at=now, monotonic=time.monotonic(), boot=boot_id(), pid=pid, born=born(pid), started=now,
        ended=ended, lanes={"cpu": lane},
    )  # fmt: skip


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Samples by name and label values, read by the format's own parser."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_figures_are_those_of_the_ledger(ledger: Ledger, settings: Settings) -> None:
    write_sign(settings, sign())
    make_backup(settings.ledger_file)
    found = values(metrics_text(settings))
    assert found["tandem_slides", "arriving"] == 2
    assert found["tandem_slides", "quarantined"] == 1
    assert found["tandem_slides_set_aside", "damaged"] == 1
    assert found["tandem_slides_set_aside", "no-accession"] == 0
    assert found["tandem_cases", "her2", "scored"] == 1
    assert found["tandem_cases_scored", "her2", "2+"] == 1
    assert found["tandem_cases_for_review",] == 1
    assert 39 < found["tandem_case_longest_wait_seconds", "scored"] < 1000
    assert found["tandem_last_arrival_timestamp_seconds",] == 100
    assert found["tandem_alive",] == found["tandem_ledger_readable",] == 1
    assert found["tandem_backup_timestamp_seconds",] > 1e9
    free = shutil.disk_usage(settings.state_dir).free
    assert found["tandem_disk_free_bytes",] == pytest.approx(free, rel=0.2)


def test_the_longest_wait_is_of_a_case_that_somebody_waits_for(
    ledger: Ledger, settings: Settings
) -> None:
    now = time.time()
    with ledger.transaction() as tx:
        identity = Identity(accession="S26-7", block="A1", stain=HE)
        set_reason(tx.case_for(identity, now - 9000, HER2_PAIR), "not-asked")
    name = "tandem_case_longest_wait_seconds"
    assert (name, "waiting") not in values(metrics_text(settings))
    with ledger.transaction() as tx:
        tx.case_for(Identity(accession="S26-8", block="A1", stain=HE), now - 60, HER2_PAIR)
    assert 59 < values(metrics_text(settings))[name, "waiting"] < 9000


@pytest.mark.parametrize(
    ("reason", "path", "state", "refused"),
    [
        ("refused", "objects/b/sr.dcm", CaseState.UNDELIVERED, 1),
        ("given-up", "wsm/a/1.dcm", CaseState.UNDELIVERED, 1),
        ("refused", "objects/b/sr.dcm", CaseState.WRITTEN, 1),  # another destination is away
        ("withdrawn", "objects/b/sr.dcm", CaseState.WRITTEN, 0),
        ("refused", "objects/a/sr.dcm", CaseState.UNDELIVERED, 0),  # of a result before this one
        ("refused", "objects/a/sr.dcm", CaseState.DELIVERED, 0),
        *((reason, "objects/b/sr.dcm", CaseState.UNDELIVERED, 0) for reason in (
            "withdrawn", "slide-trusted", "object-replaced", "left-out",
        )),
    ],
)  # fmt: skip
def test_what_nobody_has_to_do_anything_about_is_not_refused(
    reason: str, path: str, state: CaseState, refused: int, ledger: Ledger, settings: Settings
) -> None:
    uids = {"study_uid": "1.2", "series_uid": "1.3", "sop_class_uid": "1.4"}
    new = NewDelivery(destination="pacs", kind="SR", path=path, sop_instance_uid="1.5", **uids)
    with ledger.transaction() as tx:
        (case,) = tx.cases()
        case.objects_key = "objects/b"
        tx.enqueue(case.id or 0, new, 100.0)
        (row,) = tx.deliveries()
        set_reason(row, reason)
        tx.advance(row, DeliveryState.REFUSED, now=100.0)
        tx.advance(case, CaseState.WRITTEN, now=100.0)
        if case.state != state:
            tx.advance(case, state, now=100.0)
    found = values(metrics_text(settings))
    assert found.get(("tandem_deliveries", "pacs", "refused"), 0) == refused
    with ledger.transaction() as tx:
        keys = [cause.key for cause in causes_of_ledger(tx, settings, 100.0)]
    assert keys.count("refused pacs") == refused


def test_no_figure_names_a_patient(ledger: Ledger, settings: Settings) -> None:
    write_sign(settings, sign(trouble=f"cannot read {PATIENT_FILE}"))
    text = metrics_text(settings).decode()
    for name in (ACCESSION, "Müller", "svs", "A1"):
        assert name not in text
    assert 'tandem_lane_trouble{lane="cpu"} 1.0' in text


@pytest.mark.parametrize(
    ("given", "alive", "held", "ready"),
    [
        (sign(), 1, 0, True),
        (sign(trouble="share away"), 1, 1, False),
        (sign(ended="SIGTERM"), 0, 0, False),
        (None, 0, 0, False),
    ],
)
def test_life_and_readiness(
    ledger: Ledger, settings: Settings, given: Sign | None, alive: int, held: int, ready: bool
) -> None:
    if given is not None:
        write_sign(settings, sign(given.ended, given.lanes["cpu"].trouble))
    found = values(metrics_text(settings))
    assert (found["tandem_alive",], found["tandem_held_up",]) == (alive, held)
    said = health(settings)
    assert said.ready is ready and said.sentence


def test_a_slide_that_waits_for_the_site_holds_up(ledger: Ledger, settings: Settings) -> None:
    write_sign(settings, sign())
    with ledger.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        tx.advance(row, SlideState.ARRIVED, now=300.0)
    assert values(metrics_text(settings))["tandem_held_up",] == 0
    with ledger.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        set_reason(row, "weights-unusable", {"message": "network C cannot be used"})
    found = values(metrics_text(settings))
    assert found["tandem_held_up",] == 1
    assert ("tandem_slides_set_aside", "weights-unusable") not in found
    write_sign(settings, sign(ended="SIGTERM"))
    assert values(metrics_text(settings))["tandem_held_up",] == 0


def test_a_damaged_ledger_is_a_figure_and_no_error(settings: Settings) -> None:
    settings.state_dir.mkdir()
    settings.ledger_file.write_bytes(b"not a database, and longer than a header" * 40)
    write_sign(settings, sign())
    found = values(metrics_text(settings))
    assert found["tandem_ledger_readable",] == 0 and found["tandem_alive",] == 1
    assert ("tandem_cases", "her2", "scored") not in found
    assert not health(settings).ready


def test_before_the_first_start_there_are_figures(settings: Settings) -> None:
    found = values(metrics_text(settings))
    assert found["tandem_alive",] == 0 and found["tandem_ledger_readable",] == 0


def test_the_command_writes_a_whole_file(ledger: Ledger, settings: Settings) -> None:
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n')
    out = settings.state_dir.parent / "tandem.prom"
    tandem("metrics", "--config", str(config), "--out", str(out))
    assert values(out.read_bytes())["tandem_slides", "arriving"] == 2
    assert out.stat().st_mode & 0o777 == 0o644
    asked = ("metrics", "--config", config)
    away = tandem(*asked, "--out", "/proc/none/tandem.prom", check=False)
    assert away.returncode == 1 and "cannot be written" in away.stderr
    assert "Traceback" not in away.stderr
    never = tandem(*asked, "--probe", check=False)
    assert never.returncode == 1 and "has not run here yet" in never.stdout


@prometheus
def test_prometheus_own_checks_pass(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    write_sign(settings, sign())
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics_text(settings), capture_output=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = subprocess.run(
        ["promtool", "test", "rules", str(MONITORING / "alerts_test.yml")], capture_output=True
    )
    assert rules.returncode == 0, rules.stdout + rules.stderr


def test_every_alert_has_a_test_and_a_section_in_the_manual() -> None:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    tested = {
        each["alertname"]
        for test in yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
        for each in test["alert_rule_test"]
        if each["exp_alerts"]
    }
    assert tested == names
    manual = (MONITORING.parent / "docs" / "monitoring.md").read_text()
    assert all(f"| {name} |" in manual for name in names)


def test_rules_and_panels_ask_for_figures_that_exist(ledger: Ledger, settings: Settings) -> None:
    write_sign(settings, sign())
    make_backup(settings.ledger_file)
    there = {name for name, *_ in values(metrics_text(settings))}
    there |= {
        "tandem_deliveries", "tandem_last_delivery_timestamp_seconds",
        "tandem_steps_last_hour", "tandem_steps_last_hour_seconds",
    }  # fmt: skip
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    asked += [rule["expr"] for rule in group["rules"]]
    words = " ".join(asked).replace("(", " ").replace(")", " ").replace("{", " ").replace("[", " ")
    names = {word for word in words.split() if word.startswith("tandem_")}
    assert names and names <= there


class Quiet(SimpleHTTPRequestHandler):
    """Server of a folder that logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@prometheus
def test_a_real_prometheus_reads_them(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    write_sign(settings, sign())
    served = tmp_path / "served"
    served.mkdir()
    (served / "metrics").write_bytes(metrics_text(settings))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    port, own = server.server_address[1], free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{MONITORING / 'alerts.yml'}']\n"
        "scrape_configs:\n"
        "  - job_name: tandem\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        asked = urllib.parse.quote('tandem_slides_set_aside{reason="damaged"}')
        url = f"http://127.0.0.1:{own}/api/v1/query?query={asked}"
        found: list[dict[str, object]] = []
        until = time.monotonic() + 120
        while not found and time.monotonic() < until:
            time.sleep(0.3)
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found = json.load(answer)["data"]["result"]
            except OSError:
                continue
        assert found and found[0]["value"][1] == "1"  # type: ignore[index]
        with urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/rules", timeout=120) as answer:
            rules = json.load(answer)["data"]["groups"][0]["rules"]
        assert len(rules) == 13 and not [rule for rule in rules if rule["health"] == "err"]
    finally:
        process.terminate()
        process.wait(300)
        server.shutdown()
