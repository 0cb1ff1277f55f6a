"""The dashboard over a ledger of 50,000 cases, in a browser, while the appliance works.

A ledger is filled (`benchmarks/grown_ledger.py`), a daemon is started on it and analyzes one
synthetic case, whose slides are there. Then the dashboard's server and Chromium are started. The
parts `openings` and `idle` are measured with the daemon idle, and both again (`work`) while it
analyzes a second case:

- `queries_cpu_ms`: CPU time of the answers that all sessions share, without a browser.
- `*_s`: from the navigation until the page can be used: its rows are there and its button or field
  can be pressed or typed in. For the case also until the first tile of a slide has arrived
  (`case_first_tile_s`), which its page asks for while Streamlit starts, and until both slides are
  drawn whole in it (`case_drawn_s`). `zoom_first_tile_s`: the first tile of the deep zoom alone.
- CPU seconds of the server for a minute of ten open pages that nobody touches, as a share of one
  core, and how many parts were refreshed.
- `memory`: resident memory of the server over `--refreshes` refreshes of those pages.

Prints a JSON object with the load average before and after each part: the browser, the daemon and
whatever else runs share the machine. Synthetic.

Usage: python benchmarks/dashboard_scale.py [--cases 50000] [--openings 7] [--idle-seconds 60]
       [--refreshes 2000] [--parts queries openings idle work] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
# A script finds its own folder alone: the project's is told, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures.dashboard import free_port, open_browser, running
from playwright.sync_api import Browser, BrowserContext, Error, Frame, Page, Response, expect

from appliance.ledger.reader import LedgerReader
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings
from benchmarks.grown_ledger import TANDEM, fill
from dashboard.flow import read_flow
from dashboard.queries import read_case, read_queue
from dashboard.record import read_record
from dashboard.worklist import SpokenCases, read_work_list

PARTS = ["queries", "openings", "idle", "work"]
LONGEST_S = 900.0
"""Longest time that the analysis of a case may take."""
SAMPLE_SECONDS = 5.0
MIXED = ("/", "/worklist", "/case?case={case}", "/system", "/")
"""Pages that stay open, in turn: mostly what a lab keeps open all day."""
DRAWN = """() => Boolean(window.tandemZoom) && Object.values(window.tandemZoom.slides).every(
    (slide) => slide.viewer.world.getItemAt(0).getFullyLoaded())"""
"""Script of the deep zoom: whether both slides are drawn."""
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Folder with settings, scans, sources and state, and the running dashboard."""

    folder: Path
    address: str
    pid: int

    @property
    def ledger(self) -> Path:
        return self.folder / "state" / "ledger.sqlite"

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server so far, with that of children that ended, in s."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(int(each) for each in fields[11:15]) / TICKS

    def resident_mb(self) -> float:
        """Return the resident memory of the server in MB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_KB / 1024


def prepare(folder: Path, cases: int) -> None:
    """Make the ledger and the slides of two cases, unless they are there."""
    state, scans = folder / "state", folder / "scans"
    scans.mkdir(parents=True, exist_ok=True)
    (folder / "tandem.toml").write_text(
        f'state_dir = "{state}"\n'
        f'[watch]\nfolder = "{scans}"\nrescan_seconds = 5\nstable_seconds = 2\n'
    )
    if not (state / "ledger.sqlite").exists():
        fill(Settings(state_dir=state), cases)
    for seed in (26, 27):
        out = folder / f"source-{seed}"
        if not out.exists():
            command: list[str | Path] = [TANDEM, "synth", "--seed", str(seed), "--score", "2+"]
            subprocess.run([*command, "--out", out], check=True, stdout=subprocess.DEVNULL)


def scan(folder: Path, seed: int) -> str:
    """Copy the slides of a case into the scanner's folder; return its accession."""
    slides = sorted((folder / f"source-{seed}").glob("*.svs"))
    for slide in slides:
        shutil.copy(slide, folder / "scans")
    return slides[0].name.split("_")[0]


def case_of(ledger: Path, accession: str) -> tuple[int, str]:
    """Return the id and state of the case of an accession; (0, "") before there is one."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as connection:
        query = 'SELECT id, state FROM "case" WHERE accession = ?'
        return connection.execute(query, (accession,)).fetchone() or (0, "")


def wait_for(ledger: Path, accession: str, states: tuple[str, ...]) -> int:
    """Wait until a case is in one of some states; return its id."""
    deadline = time.monotonic() + LONGEST_S
    while (found := case_of(ledger, accession))[1] not in states:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{accession}: {found}")
        time.sleep(1)
    return found[0]


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Start the dashboard's server."""
    port = free_port()
    command = [sys.executable, "-m", "dashboard.serve", "--config", str(folder / "tandem.toml")]
    address = f"http://127.0.0.1:{port}"
    with running([*command, "--port", str(port)], folder / "dashboard.log") as process:
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):  # noqa: S310
                break
            if process.poll() is not None:
                raise RuntimeError((folder / "dashboard.log").read_text())
            time.sleep(0.2)
        yield Site(folder=folder, address=address, pid=process.pid)


def today(page: Page) -> None:
    """Wait until Today can be used."""
    expect(page.locator(".td-counts")).to_be_visible()
    expect(page.locator("table tbody tr").first).to_be_visible()
    expect(page.get_by_role("textbox", name="Find")).to_be_editable()


def work_list(page: Page) -> None:
    """Wait until the work list can be used."""
    expect(page.locator(".td-list tbody tr").first).to_be_visible()
    expect(page.get_by_role("textbox", name="Find")).to_be_editable()


def case_page(page: Page) -> None:
    """Wait until a case can be decided on."""
    expect(page.locator(".td-line h1")).to_be_visible()
    expect(page.get_by_role("button", name="Confirm", exact=True)).to_be_enabled()


def opened(context: BrowserContext, path: str, usable: Callable[[Page], None]) -> float:
    """Return the seconds from the navigation until a page can be used."""
    page = context.new_page()
    began = time.perf_counter()
    page.goto(path, wait_until="commit")
    usable(page)
    took = time.perf_counter() - began
    page.close()
    return took


def first_tile(context: BrowserContext, path: str) -> float:
    """Return the seconds from the navigation until the first tile has arrived."""

    def is_tile(answer: Response) -> bool:
        return "/tiles/" in answer.url and answer.ok

    page = context.new_page()
    began = time.perf_counter()
    with page.expect_response(is_tile) as found:
        page.goto(path, wait_until="commit")
    found.value.finished()
    took = time.perf_counter() - began
    page.close()
    return took


def is_drawn(frame: Frame) -> bool:
    """Return whether a frame is the deep zoom, and both slides are drawn in it."""
    with suppress(Error):  # the frame is being loaded
        return "/zoom/" in frame.url and bool(frame.evaluate(DRAWN))
    return False


def drawn(context: BrowserContext, path: str) -> float:
    """Return the seconds from the navigation until both slides of a case are drawn whole."""
    page = context.new_page()
    began = time.perf_counter()
    page.goto(path, wait_until="commit")
    while not any(is_drawn(frame) for frame in page.frames):
        page.wait_for_timeout(10)
    took = time.perf_counter() - began
    page.close()
    return took


def openings(browser: Browser, site: Site, case: int, number: int) -> dict[str, Any]:
    """Return median and worst seconds of several openings; the first one finds an empty cache."""
    asked: dict[str, Callable[[BrowserContext], float]] = {
        "today_s": lambda context: opened(context, "/", today),
        "work_list_s": lambda context: opened(context, "/worklist", work_list),
        "case_s": lambda context: opened(context, f"/case?case={case}", case_page),
        "case_first_tile_s": lambda context: first_tile(context, f"/case?case={case}"),
        "case_drawn_s": lambda context: drawn(context, f"/case?case={case}"),
        "zoom_first_tile_s": lambda context: first_tile(context, f"/zoom/{case}"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    before, cpu = os.getloadavg()[0], site.cpu_seconds()
    view = {"width": 1280, "height": 720}
    context = browser.new_context(viewport=view, base_url=site.address)  # type: ignore[arg-type]
    context.set_default_timeout(120_000)
    for _ in range(number):
        for name, ask in asked.items():
            seconds[name].append(ask(context))
    context.close()
    figures: dict[str, Any] = {
        name: {
            "first": round(found[0], 2),
            "median": round(statistics.median(found), 2),
            "worst": round(max(found), 2),
        }
        for name, found in seconds.items()
    }
    used = (site.cpu_seconds() - cpu) / (number * len(asked))
    return figures | {
        "server_cpu_s_per_opening": round(used, 3),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
    }


def queries(settings: Settings) -> dict[str, float]:
    """Return the CPU time of the answers that pages share, in ms: the least of five."""
    reader, spoken = LedgerReader(settings.ledger_url), SpokenCases()
    asked: dict[str, Callable[[], object]] = {
        "today": lambda: read_queue(reader, settings),
        "flow": lambda: read_flow(reader, settings),
        "work_list": lambda: read_work_list(reader, settings, spoken),
        "case": lambda: read_case(reader, settings, 1),
        "record": lambda: read_record(reader, settings, who="nobody"),
        "version": reader.version,
    }
    found = {}
    for name, ask in asked.items():
        ask()
        seconds = []
        for _ in range(5):
            began = time.process_time()
            ask()
            seconds.append(time.process_time() - began)
        found[name] = round(1000 * min(seconds), 2)
    reader.close()
    return found


class OpenPages:
    """Pages that stay open; `refreshes` counts the runs of their parts that follow the ledger."""

    def __init__(self, browser: Browser, site: Site, case: int, number: int) -> None:
        self.refreshes = 0
        self._context = browser.new_context(base_url=site.address)
        self._context.set_default_timeout(120_000)
        self._pages = [self._context.new_page() for _ in range(number)]
        for place, page in enumerate(self._pages):
            page.on("websocket", lambda socket: socket.on("framesent", self._count))
            page.goto(MIXED[place % len(MIXED)].format(case=case))
            expect(page.locator(".td-foot")).to_be_visible()

    def wait(self, seconds: float) -> None:
        """Let time go by, in which events of the pages are counted."""
        self._pages[0].wait_for_timeout(1000 * seconds)

    def close(self) -> None:
        """Close the pages."""
        self._context.close()

    def _count(self, _frame: str | bytes) -> None:
        self.refreshes += 1


def idle(pages: OpenPages, site: Site, seconds: float) -> dict[str, Any]:
    """Return what open pages cost that nobody touches."""
    pages.wait(10)  # the rest of their opening
    cpu, began, refreshes = site.cpu_seconds(), time.perf_counter(), pages.refreshes
    pages.wait(seconds)
    used, took = site.cpu_seconds() - cpu, time.perf_counter() - began
    return {
        "cpu_share_of_a_core": round(used / took, 4),
        "refreshes": pages.refreshes - refreshes,
        "cpu_ms_per_refresh": round(1000 * used / max(1, pages.refreshes - refreshes), 2),
        "load": [round(each, 1) for each in os.getloadavg()[:2]],
    }


def memory(pages: OpenPages, site: Site, refreshes: int) -> dict[str, Any]:
    """Return the resident memory over some refreshes of open pages, in MB."""
    begin, found = pages.refreshes, [site.resident_mb()]
    while pages.refreshes - begin < refreshes:
        pages.wait(SAMPLE_SECONDS)
        found.append(site.resident_mb())
    return {
        "refreshes": pages.refreshes - begin,
        "first_mb": round(found[0]),
        "last_mb": round(found[-1]),
        "least_mb": round(min(found)),
        "most_mb": round(max(found)),
        "last_over_first": round(found[-1] / found[0], 3),
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the parts that are wanted."""
    config, ledger = folder / "tandem.toml", folder / "state" / "ledger.sqlite"
    daemon = [str(TANDEM), "run", "--config", str(config)]
    figures: dict[str, Any] = {"ledger_mb": round(ledger.stat().st_size / 1e6)}
    if "queries" in options.parts:
        figures["queries_cpu_ms"] = queries(load_settings(config))
        tell(figures)
    if options.parts == ["queries"]:
        return figures
    with running(daemon, folder / "daemon.log"):
        case = wait_for(ledger, scan(folder, 26), ("delivered",))
        with serving(folder) as site, open_browser() as browser:
            if "openings" in options.parts:
                figures["openings"] = openings(browser, site, case, options.openings)
                tell(figures)
            if "idle" in options.parts:
                figures["idle"] = left_open(browser, site, case, options)
                tell(figures)
            if "work" in options.parts:
                other = rescan(folder)
                wait_for(ledger, other, ("waiting", "ready", "aligned"))
                figures["openings_at_work"] = openings(browser, site, case, options.openings)
                tell(figures)
                figures["idle_at_work"] = left_open(browser, site, case, options)
                figures["still_at_work"] = case_of(ledger, other)[1] != "delivered"
    return figures


def tell(figures: dict[str, Any]) -> None:
    """Tell what is known so far, should the run be ended."""
    print(json.dumps(figures), file=sys.stderr, flush=True)


def left_open(
    browser: Browser, site: Site, case: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Return what pages cost that stay open: CPU, then memory."""
    pages = OpenPages(browser, site, case, options.pages)
    found = idle(pages, site, options.idle_seconds)
    if options.refreshes:
        found["memory"] = memory(pages, site, options.refreshes)
    pages.close()
    return found


def rescan(folder: Path) -> str:
    """Scan the slides of the second case under an accession that is new; return it."""
    slides = sorted((folder / "source-27").glob("*.svs"))
    accession = slides[0].name.split("_")[0]
    # Five digits, as names of scans have them here; those of the filled ledger have six.
    other = f"S26-{int(time.time()) % 90_000 + 10_000}"
    for slide in slides:
        # Other bytes at the end: equal files would be one slide under two names.
        target = folder / "scans" / slide.name.replace(accession, other)
        target.write_bytes(slide.read_bytes() + other.encode())
    return other


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--openings", type=int, default=7)
    parser.add_argument("--pages", type=int, default=10)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--refreshes", type=int, default=2000)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="What to measure, in this order."
    )
    parser.add_argument("--keep", type=Path, help="Folder for the ledger; filled if it is empty.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = options.keep or Path(scratch)
        prepare(folder, options.cases)
        print(json.dumps(measure(folder, options), indent=1))


if __name__ == "__main__":
    main()
