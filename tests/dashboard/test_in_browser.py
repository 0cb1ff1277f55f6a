"""The deep zoom and the actions in a browser, over a ledger that no daemon holds meanwhile."""

from __future__ import annotations

import ast
import io
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
from fixtures.dashboard import dashboard_server, go_to, linked, open_browser, wait_for_zoom, zoom_of
from fixtures.judges import require_viewer
from fixtures.twins import CENTER_UM, TURNED
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, Request, expect

import dashboard
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import EventRow

if TYPE_CHECKING:
    from conftest import Lab

PERSON = "Meyer^Anna"
pytestmark = [pytest.mark.judge]


@pytest.fixture(scope="module")
def page(twin_lab: Lab) -> Iterator[Page]:
    folder = twin_lab.settings.state_dir.parent
    with (
        dashboard_server(folder / "tandem.toml", folder / "dashboard.log") as address,
        open_browser() as browser,
    ):
        opened = browser.new_page(viewport={"width": 1280, "height": 720}, base_url=address)
        yield opened


def picture(page: Page, what: str) -> NDArray[np.float64]:
    """Return the middle of what a viewer shows, in gray."""
    shown = Image.open(io.BytesIO(page.locator(f"#{what} canvas").first.screenshot()))
    gray = np.asarray(shown.convert("L"), dtype=np.float64)
    row, column = gray.shape[0] // 2, gray.shape[1] // 2
    return gray[row - 100 : row + 100, column - 100 : column + 100]


def test_both_slides_show_one_place_however_the_second_lies(page: Page) -> None:
    page.goto("/zoom/1")
    wait_for_zoom(page)
    for box in page.get_by_role("checkbox", name="Tumor on").all():
        box.uncheck()
    x, y = CENTER_UM
    places = [(x, y), (x - 500, y - 200), (x + 400, y + 300), (x - 100, y + 350)]
    for number, place in enumerate(places):
        what = "he" if number % 2 == 0 else "ihc"
        go_to(page, what, place, 0.25)
        for offset in ((0, 0), (90, 40), (-60, 80)):
            he_um, ihc_um = linked(page, offset)
            assert np.hypot(*(TURNED.apply(np.array(he_um)) - ihc_um)) < 50
    # The second slide is the first one, mirrored and turned: what is seen is one picture.
    for turn in (0, 90):
        page.evaluate(
            "(turn) => window.tandemZoom.slides.he.viewer.viewport.setRotation(turn, true)", turn
        )
        go_to(page, "he", (x - 200, y + 100), 0.8)
        wait_for_zoom(page)

        def one_picture() -> bool:
            first, second = picture(page, "he"), picture(page, "ihc")
            same = np.corrcoef(first.ravel(), second.ravel())[0, 1]
            mirrored = np.corrcoef(first.ravel(), second[:, ::-1].ravel())[0, 1]
            return bool(same > 0.9 and mirrored < 0.5)

        until(one_picture)


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds, as long as a slow machine needs."""
    deadline = time.monotonic() + 360
    while not holds():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.2)


def test_hand_and_keys_lead_and_overlays_need_no_server(page: Page) -> None:
    page.goto("/zoom/1")
    wait_for_zoom(page)
    before = linked(page, (0, 0))
    page.locator("#ihc").hover()
    page.mouse.wheel(0, -400)
    page.locator("#ihc [role=group]").focus()
    page.keyboard.press("ArrowRight")

    def followed() -> bool:
        he_um, ihc_um = linked(page, (50, 20))
        moved = np.hypot(*(np.array(before[1]) - linked(page, (0, 0))[1])) > 20
        return bool(moved and np.hypot(*(TURNED.apply(np.array(he_um)) - ihc_um)) < 50)

    until(followed)
    page.get_by_label("Linked").uncheck()
    page.keyboard.press("ArrowRight")
    box = page.get_by_role("checkbox", name="M: 2+")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response(lambda answer: "/overlays/1/ihc/m2/" in answer.url):
        box.check()
    loaded = "window.tandemZoom.slides.ihc.layers.m2.item.getFullyLoaded()"
    until(lambda: bool(page.evaluate(loaded)))
    asked.clear()
    box.uncheck()
    box.check()
    page.get_by_label("Opacity of the overlays in percent").fill("20")
    opacity = "window.tandemZoom.slides.ihc.layers.m2.item.getOpacity()"
    until(lambda: page.evaluate(opacity) == pytest.approx(0.2))
    assert [url for url in asked if "/m2/" in url] == []


def test_a_slide_that_is_away_shows_its_overview(page: Page, twin_lab: Lab) -> None:
    with twin_lab.ledger.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        path, row.path = row.path, "/nowhere/x.tiff"
        tx.session.add(row)
    try:
        page.goto("/zoom/1")
        wait_for_zoom(page, drawn=False)
        expect(page.locator("#he-note")).to_contain_text("Overview only. The file of slide-1")
        expect(page.locator("#ihc-note")).to_be_empty()
    finally:
        with twin_lab.ledger.transaction() as tx:
            row = tx.slide(1)
            assert row is not None
            row.path = path
            tx.session.add(row)


def test_no_serious_finding_of_axe_light_or_dark_and_no_page_is_wider_than_its_window(
    page: Page, twin_lab: Lab
) -> None:
    delivered(twin_lab)
    aside = twin_lab.quarantine("a name that is as long as a scanner can make it.svs", "no-mpp")
    addresses = ("/case?case=1", "/slide?slide=1", "/worklist", "/", "/quality", "/system")
    for address in (*addresses, "/record", "/first-run"):
        page.goto(address)
        expect(page.locator(".td-card").first).to_be_visible()
        if address.startswith("/case"):
            zoom_of(page)
        for width in (390, 1920, 1280):
            page.set_viewport_size({"width": width, "height": 720})
            until(lambda: page.evaluate(WIDER_PX) <= 0)
        look_for_findings(page, address)
        if address not in ("/case?case=1", "/worklist", "/system"):
            continue
        page.emulate_media(color_scheme="dark")
        until(lambda: luminance(page.evaluate(BACKGROUND)) < 0.2)  # Streamlit follows a bit later
        look_for_findings(page, f"{address}, dark", "color-contrast")
        page.emulate_media(color_scheme="light")
    twin_lab.do(lambda tx, _: tx.session.delete(tx.slide(aside)))


WIDER_PX = """() => Math.max(...["html", ".stMain"].map((name) => {
    const shown = document.querySelector(name);
    return shown.scrollWidth - shown.clientWidth;
}))"""
"""Script: px by which a page is wider than its window."""
BACKGROUND = "() => getComputedStyle(document.querySelector('.stApp')).backgroundColor"


def luminance(color: str) -> float:
    """Return the mean of a color as CSS has it, 0 (black) to 1."""
    return float(np.mean([int(part) for part in re.findall(r"\d+", color)[:3]])) / 255


def look_for_findings(page: Page, where: str, rule: str = "") -> None:
    """Let axe look at a page and its frames, by one rule or all; no finding is serious."""
    axe = (require_viewer() / "js" / "axe.min.js").read_text()
    for frame in page.frames:
        if not frame.evaluate("Boolean(window.axe)"):
            frame.evaluate(f"{axe}; 0")
    options = {"resultTypes": ["violations"]} | ({"runOnly": [rule]} if rule else {})
    found = page.evaluate("(options) => axe.run(options)", options)
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == [], (where, [node["html"] for each in serious for node in each["nodes"]])


def test_keys_choose_a_case_of_the_work_list_which_shows_its_picture(
    page: Page, twin_lab: Lab
) -> None:
    delivered(twin_lab)
    page.goto("/worklist?order=oldest")
    shown = page.get_by_alt_text("Scored slide of case-1")
    expect(shown).to_be_visible()
    until(lambda: shown.evaluate("(image) => image.naturalWidth") == 144)
    expect(page.locator(".td-sort [aria-current]")).to_have_text("Oldest")
    page.keyboard.press("j")
    expect(page.locator(":focus")).to_have_attribute("href", "case?case=1")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/case?case=1")


def test_one_button_tries_all_of_a_cause_again(page: Page, twin_lab: Lab) -> None:
    numbers = [twin_lab.quarantine(f"{name}.svs", "no-mpp") for name in ("one", "two")]
    page.goto("/")
    page.get_by_role("button", name="Try all 2 again").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    # The page goes on refreshing beneath; the form stays, with what was typed.
    dialog.get_by_role("textbox", name="Reason").fill("The scanner writes it now.")
    twin_lab.arrive("meanwhile.svs")
    expect(page.get_by_role("link", name="meanwhile.svs")).to_be_attached()
    submit(page, "Try again")
    expect(page.get_by_text("2 of 2 are tried again")).to_be_visible()
    for number in numbers:
        assert last_event(twin_lab, f"slide-{number}", "word-retry").by == PERSON
    expect(page.get_by_role("button", name="Try all 2 again")).to_have_count(0)


def test_a_selection_survives_refreshes_and_times_are_the_viewers(
    page: Page, twin_lab: Lab
) -> None:
    page.goto("/")
    accession = page.locator("tbody a", has_text="S26-0000001").first
    expect(accession).to_be_visible()
    accession.evaluate("(element) => getSelection().selectAllChildren(element)")
    twin_lab.arrive("selected.svs")
    expect(page.get_by_role("link", name="selected.svs")).to_be_attached()
    page.wait_for_timeout(4500)  # two refreshes more
    assert page.evaluate("getSelection().toString()") == "S26-0000001"
    assert accession.evaluate("(element) => getSelection().containsNode(element, true)")

    assert page.context.browser is not None
    elsewhere = page.context.browser.new_page(
        base_url=page.url.rstrip("/"), timezone_id="Asia/Kolkata"
    )
    elsewhere.goto("/case?case=1")
    elsewhere.get_by_role("tab", name="History").click()
    times = elsewhere.get_by_role("tabpanel").locator("time")
    expect(times.first).to_contain_text("GMT+5:30")
    moment = datetime.fromisoformat(times.first.get_attribute("datetime") or "")
    there = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    expect(times.first).to_contain_text(f"{there:%Y-%m-%d %H:%M:%S}")
    elsewhere.close()


def test_a_page_asks_for_what_it_needs_at_once(page: Page) -> None:
    asked: list[str] = []
    ahead: list[str] = []  # by the page itself, not by the deep zoom in its frame

    def note(request: Request) -> None:
        asked.append(path := urlsplit(request.url).path)
        if not request.is_navigation_request() and request.frame == page.main_frame:
            ahead.append(path)

    page.on("request", note)
    page.on("websocket", lambda _socket: asked.append("socket"))
    for address, usable in (
        ("/case?case=1", page.get_by_role("button", name="Rerun", exact=True)),
        ("/worklist", page.get_by_role("textbox", name="Find")),
    ):
        asked.clear()
        ahead.clear()
        page.goto(address)
        expect(usable).to_be_visible()
        expect(page.locator(".td-foot")).to_be_visible()
        if "case" in address:
            zoom_of(page)
        # Streamlit's server is looked for at no other place, and no part is asked for afterwards.
        after = asked[asked.index("socket") :]
        assert not [path for path in asked if "_stcore" in path and path.count("/") > 2]
        assert not [path for path in after if path.startswith("/static/js/")]
        if "case" in address:
            # The page asked for facts and first tiles, once, before its deep zoom could.
            facts = "/zoom/1/case.json"
            assert asked.count(facts) == ahead.count(facts) == 1
            assert asked.index(facts) < asked.index("socket")
            assert [path for path in ahead if path.startswith("/tiles/")]


def test_hidden_names_are_in_no_byte_that_a_browser_gets(page: Page, twin_lab: Lab) -> None:
    delivered(twin_lab)
    secrets = (b"S26-0000001", b"first.tiff", b"second.tiff")
    got: list[bytes] = []
    page.on(
        "websocket",
        lambda socket: socket.on(
            "framereceived",
            lambda data: got.append(data if isinstance(data, bytes) else data.encode()),
        ),
    )
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    page.goto("/")
    page.get_by_role("link", name="Hide names").click()
    page.get_by_role("button", name="Hide names").click()
    expect(page.get_by_role("link", name="•••• 001", exact=True)).to_be_visible()
    got.clear()
    for address in ("/", "/worklist?find=A1", "/case?case=1", "/slide?slide=1", "/zoom/1"):
        page.goto(address)
        if address == "/zoom/1":
            wait_for_zoom(page)
        else:
            expect(page.get_by_text("a pathologist decides.")).to_be_visible()
        assert "S26" not in page.title()
        if address.startswith("/case"):
            zoom_of(page)
            page.get_by_role("tab", name="Report").click()
            expect(page.get_by_text("the report names the patient")).to_be_visible()
            page.get_by_role("tab", name="History").click()
            expect(page.get_by_role("heading", name="History")).to_be_visible()
    asked = {url for url in asked if url.startswith("http") and "/static/" not in url}
    assert {url.split("/")[3] for url in asked} >= {"zoom", "tiles", "thumbs", "media", "_stcore"}
    got += [page.request.get(url).body() for url in asked]
    assert [secret for secret in secrets for data in got if secret in data] == []
    for address in ("/reports/1.pdf", "/reports/1.png"):
        assert page.request.get(address).status == 403
    page.goto("/access/names")
    page.get_by_role("button", name="Show names").click()
    expect(page.get_by_role("link", name="S26-0000001", exact=True)).to_be_visible()


def last_event(lab: Lab, subject: str, code: str) -> EventRow:
    with lab.ledger.transaction() as tx:
        return next(event for event in reversed(tx.events(subject)) if event.code == code)


def delivered(lab: Lab) -> None:
    """Do what the daemon does with a case whose score changed, unless it did."""
    if lab.rows()[1][0].state == CaseState.DELIVERED:
        return
    for state in (CaseState.WRITTEN, CaseState.DELIVERED):
        lab.move_case(1, state)


def open_dialog(page: Page, action: str) -> None:
    if "/case?case=1" not in page.url:
        page.goto("/case?case=1")
    # The page follows the ledger by itself: the button can be pressed once the case is delivered.
    page.get_by_role("button", name=action, exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()


def submit(page: Page, button: str, *, why: str = "", name: str = PERSON) -> None:
    """Fill the form that is open, and press its button."""
    place = (
        page.get_by_role("dialog")
        if page.get_by_role("dialog").count()
        else page.get_by_role("tabpanel")
    )
    if why:
        place.get_by_role("textbox", name="Reason").fill(why)
    place.get_by_role("textbox", name="Your name").fill(name)
    place.get_by_role("button", name=button).click()


def test_each_button_of_a_case_is_in_the_audit_trail_with_its_person(
    page: Page, twin_lab: Lab
) -> None:
    delivered(twin_lab)
    open_dialog(page, "Confirm")
    submit(page, "Confirm 2+", name=" ")
    expect(page.get_by_text("Your name: say who says so")).to_be_visible()
    submit(page, "Confirm 2+")
    expect(page.get_by_text("case-1: score 2+ confirmed by Meyer^Anna")).to_be_visible()
    assert last_event(twin_lab, "case-1", "confirmed-by").by == PERSON
    delivered(twin_lab)

    # The same score again is a confirmation, not a correction.
    open_dialog(page, "Correct")
    page.get_by_role("dialog").get_by_text("2+", exact=True).click()
    submit(page, "Correct", name="Ito^Bert")
    expect(page.get_by_text("score 2+ confirmed by Ito^Bert;")).to_be_visible()
    assert last_event(twin_lab, "case-1", "confirmed-by").by == "Ito^Bert"
    delivered(twin_lab)

    open_dialog(page, "Correct")
    page.get_by_role("dialog").get_by_text("1+", exact=True).click()
    submit(page, "Correct", why="Only cytoplasm is stained.")
    expect(page.get_by_test_id("score")).to_have_text("1+")
    corrected = last_event(twin_lab, "case-1", "corrected-by")
    assert (corrected.by, twin_lab.rows()[1][0].score) == (PERSON, "1+")
    expect(page.get_by_test_id("correction")).to_contain_text("are the appliance's")
    delivered(twin_lab)

    open_dialog(page, "Cannot score")
    submit(page, "Say so", why="The section is torn.")
    expect(page.get_by_test_id("score")).to_have_text("–")
    assert last_event(twin_lab, "case-1", "corrected-by").by == PERSON
    delivered(twin_lab)

    open_dialog(page, "Rerun")
    submit(page, "Rerun")
    expect(page.get_by_text("case-1 is analyzed again")).to_be_visible()
    assert last_event(twin_lab, "case-1", "rerun").by == PERSON
    page.get_by_role("tab", name="History").click()
    row = page.get_by_role("row").filter(has_text="rerun").first
    expect(row.get_by_role("cell").last).to_have_text(PERSON)


def test_each_form_of_a_slide_is_in_the_audit_trail_with_its_person(
    page: Page, twin_lab: Lab
) -> None:
    number = twin_lab.quarantine("label.svs", "unknown-stain")
    subject = f"slide-{number}"
    page.goto("/")
    page.get_by_role("link", name=f"{subject}: put right").click()
    expect(page.get_by_role("heading", name=f"{subject}: label.svs")).to_be_visible()

    page.get_by_role("tabpanel").get_by_role("textbox", name="Accession").fill("S26-0000001")
    page.get_by_role("tabpanel").get_by_role("textbox", name="Block").fill("A1")
    page.get_by_role("tabpanel").get_by_role("textbox", name="Stain").fill("nonsense")
    submit(page, "Say what it is", why="The label says so.")
    expect(page.get_by_text("Stain 'nonsense' is not known.")).to_be_visible()
    page.get_by_role("tabpanel").get_by_role("textbox", name="Stain").fill("HER2")
    submit(page, "Say what it is", why="The label says so.")
    expect(page.get_by_text(f"{subject} is identified again by this word")).to_be_visible()
    assert last_event(twin_lab, subject, "word-set").by == PERSON

    for label, code in (
        ("Leave out of every case", "word-exclude"),
        ("Keep before other scans", "word-keep"),
        ("Try again", "word-retry"),
    ):
        page.goto(f"/slide?slide={number}")
        page.get_by_role("tab", name="Leave out, try again, keep").click()
        page.get_by_text(label, exact=True).click()
        submit(page, "Do it", why="So that it is done.")
        expect(page.locator(".td-said:not(.refused)")).to_contain_text(subject)
        assert last_event(twin_lab, subject, code).by == PERSON

    page.goto(f"/slide?slide={number}")
    page.get_by_role("tab", name="Pair it").click()
    page.get_by_role("textbox", name="H&E slide").fill("slide-1")
    page.get_by_role("textbox", name="Other slide").fill(subject)
    page.get_by_role("textbox", name="Other slide").press("Tab")
    panel = page.get_by_role("tabpanel")
    for name in ("slide-1: ", f"{subject}: label.svs"):  # both are shown first
        expect(panel.get_by_text(name)).to_be_visible()
    submit(page, "Pair them", why="One block.")
    expect(page.get_by_text(f"slide-1 and {subject} are paired")).to_be_visible()
    assert last_event(twin_lab, subject, "word-pair").by == PERSON
    assert twin_lab.rows()[0][number - 1].state == SlideState.ARRIVED


def test_the_pages_write_through_the_service_alone() -> None:
    """One module calls what writes; nothing of the dashboard opens the ledger for writing."""
    writing = {"ledger", "transaction"}
    services = {"corrections", "word", "retry_word", "retry", "urgent", "audited"}
    found = {}
    folder = Path(dashboard.__file__).parent
    for file in folder.rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                dotted = [f"{node.module}.{each.name}" for each in node.names] + [node.module]
                names |= {name for name in dotted if name.startswith("appliance.")}
        assert not names & {f"appliance.ledger.{name}" for name in writing}, file
        if names & {f"appliance.operations.{name}" for name in services}:
            found[str(file.relative_to(folder))] = names
    assert list(found) == ["actions.py"]
