"""The interim reader in a browser: a hint on a waiting case, and superseded by the score."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from fixtures.daemon import Daemon, case_state
from fixtures.dashboard import dashboard_server, open_browser, zoom_of
from fixtures.interim_pairs import untrained_weights
from playwright.sync_api import Page, expect
from pydicom import Dataset, dcmread

from dicom import codes
from models.synthesis.slides import SyntheticCase

pytestmark = [pytest.mark.judge, pytest.mark.slow]


def hinting_daemon(folder: Path) -> Daemon:
    """Return a daemon whose interim reader has weights by chance: what it says is not tested."""
    weights = json.dumps(str(untrained_weights(folder / "weights")))
    return Daemon(folder / "appliance", f'[models]\ninterim = {weights}\ndevice = "cpu"')


def wait_for_ledger(daemon: Daemon) -> None:
    """Wait for the ledger, which the dashboard reads and never makes."""
    deadline = time.monotonic() + 720
    while not (daemon.state / "ledger.sqlite").is_file():
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.2)


def texts_of(item: Dataset) -> list[tuple[str, str]]:
    """Return name and value of each text in the content of a report."""
    found = []
    for each in item.get("ContentSequence", ()):
        if each.ValueType == "TEXT":
            found.append((each.ConceptNameCodeSequence[0].CodeMeaning, each.TextValue))
        found += texts_of(each)
    return found


def open_case_page(page: Page, address: str) -> None:
    page.goto(f"{address}/case?case=1")
    expect(page.get_by_role("heading", name="block A1")).to_be_visible()


@pytest.mark.timeout(1500)
def test_a_hint_is_seen_until_the_score_supersedes_it(
    tmp_path: Path, small_case: SyntheticCase
) -> None:
    daemon = hinting_daemon(tmp_path)
    daemon.drop(small_case.he_path)
    daemon.start()
    try:
        wait_for_ledger(daemon)
        with (
            dashboard_server(daemon.config, tmp_path / "dashboard.log") as address,
            open_browser() as browser,
        ):
            daemon.wait(lambda status: any(s["state"] == "read" for s in status["slides"]))
            page = browser.new_page()
            open_case_page(page, address)
            hint = page.get_by_test_id("interim")
            expect(hint).to_contain_text("Interim, not a score:")
            said = re.search(r"(0|[123]\+) \(\d+ %\) from the H&E slide alone", hint.inner_text())
            assert said is not None, hint.inner_text()
            expect(page.get_by_test_id("score")).to_have_count(0)
            expect(page.get_by_test_id("interim-map")).to_contain_text("Interim, not a score")

            # The page stays open: the score comes to it, and the hint is none any more.
            daemon.drop(small_case.ihc_path)
            (case,) = daemon.wait(case_state("delivered"))["cases"]
            expect(page.get_by_test_id("score")).to_have_text(case["score"])
            agreed = "agreed" if said[1] == case["score"] else "did not agree"
            expect(hint).to_have_text(f"Interim, superseded: {said[0]}. It {agreed} with the score "
                                      f"{case['score']}.")  # fmt: skip
            expect(page.get_by_test_id("interim-map")).to_have_count(0)
            layer = zoom_of(page).get_by_label("Interim, superseded: attention of the hint")
            expect(layer).not_to_be_checked()
        headers = [dcmread(path) for path in (daemon.state / "archive").rglob("*.dcm")]
        (report,) = [header for header in headers if header.Modality == "SR"]
        stated = [text for text in texts_of(report) if "interim" in " ".join(text).lower()]
        assert stated == [(
            codes.INTERIM.meaning,
            "An interim opinion on the anatomy slide alone existed before this score. It is "
            "superseded and no part of this result.",
        )]  # fmt: skip
        assert "interim-chance" not in str(report)  # the name of its weights
        daemon.stop()
    finally:
        daemon.close()
