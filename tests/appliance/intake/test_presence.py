"""Several watched folders, of which one or a part may be away; start from now."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.site import WINDOW_S, Site
from fixtures.slide_objects import write_svs

import appliance.intake.found
from appliance.errors import FolderAwayError
from appliance.intake.listing import Folder, ListedFile, Listing
from appliance.intake.report import read_report
from appliance.ledger.tables import SlideRow
from appliance.line.child import Limits
from appliance.line.site_trouble import site_trouble
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings


class Here:
    """Slot that looks in this process."""

    def run(self, _limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def fill(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"S26-{number}_A1_HE.svs").write_bytes(b"II*\0")


def blamed(site: Site, path: Path) -> bool:
    """Return whether a slide is blamed for a step that could not read it."""
    settings = Settings(state_dir=site.state, watch=site.watch)
    row = SlideRow(path=str(path), state="arrived", created_at=0, changed_at=0)
    err = FileNotFoundError(errno.ENOENT, "gone")
    return not isinstance(site_trouble(err, settings, [row], Here()), FolderAwayError)


@pytest.mark.parametrize("how", ["missing", "mount point", "emptied", "not readable"])
def test_a_root_that_is_away_takes_only_its_own_slides(
    site: Site, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = site.scans.with_name("other")
    fill(site.scans)
    fill(other)
    site.start(folders=[other])
    assert set(site.run().values()) == {"arriving"}
    (other / "S26-0_A1_HE.svs").unlink()
    away = site.scans.with_name("away")
    if how == "emptied":
        away.mkdir()
        for path in list(site.scans.iterdir()):
            path.rename(away / path.name)
    else:
        site.scans.rename(away)
        if how == "mount point":
            site.scans.mkdir()
        elif how == "not readable":
            site.scans.write_bytes(b"")  # answers with ENOTDIR
    for act in (site.run, site.look, site.run):
        states = act(after_s=WINDOW_S)
        assert {s for p, s in states.items() if p.startswith("S26")} == {"arriving"}
    assert states[f"{other}/S26-0_A1_HE.svs"] == "quarantined"
    assert blamed(site, other / "S26-0_A1_HE.svs")
    assert not blamed(site, site.scans / "S26-0_A1_HE.svs")
    if how != "emptied":
        assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
        assert list(read_report(site.state).away) == [str(site.scans)]
        site.scans.rmdir() if site.scans.is_dir() else site.scans.unlink(missing_ok=True)
        away.rename(site.scans)
    else:
        for path in list(away.iterdir()):
            path.rename(site.scans / path.name)
    site.run(WINDOW_S)
    assert site.run(200)["S26-0_A1_HE.svs"] == "arrived"
    assert read_report(site.state).away == {}


def test_a_mounted_subfolder_that_is_away_blames_no_slide(site: Site) -> None:
    fill(site.scans / "scanner1")
    fill(site.scans / "scanner2")
    site.run()
    away = site.scans.with_name("away")
    (site.scans / "scanner1").rename(away)
    (site.scans / "scanner1").mkdir()
    for start in (False, True):  # also after a restart
        if start:
            site.start()
        assert set(site.run(WINDOW_S)[f"scanner1/S26-{i}_A1_HE.svs"] for i in range(3)) == {
            "arriving"
        }
        assert not blamed(site, site.scans / "scanner1" / "S26-0_A1_HE.svs")
    (site.scans / "scanner1").rmdir()
    away.rename(site.scans / "scanner1")
    site.run(WINDOW_S)
    assert set(site.run(200).values()) == {"arrived"}
    for path in (site.scans / "scanner2").iterdir():
        path.unlink()
    assert blamed(site, site.scans / "scanner2" / "S26-0_A1_HE.svs")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_to_a_mount_point_that_is_gone_blames_no_slide(site: Site, what: str) -> None:
    """The mount point itself goes with its mount, as udisks and autofs remove theirs."""
    media = site.scans.with_name("media")
    fill(media / "scanner1")
    fill(site.scans / "other")
    link = site.scans / "scanner1"
    if what == "folder":
        link.symlink_to(media / "scanner1")
    else:
        link.mkdir()
        for path in (media / "scanner1").iterdir():
            (link / path.name).symlink_to(path)
    site.run()
    media.rename(site.scans.with_name("away"))
    for act in (site.run, site.look, site.run):
        states = act(after_s=1)
        assert {states[f"scanner1/S26-{i}_A1_HE.svs"] for i in range(3)} == {"arriving"}
        assert not blamed(site, link / "S26-0_A1_HE.svs")
    site.scans.with_name("away").rename(media)
    site.run(WINDOW_S)
    assert set(site.run(200).values()) == {"arrived"}
    shutil.rmtree(link) if what == "file" else link.unlink()
    assert blamed(site, link / "S26-0_A1_HE.svs")


def test_a_link_whose_target_was_deleted_is_gone(site: Site) -> None:
    kept = site.scans.with_name("kept")
    fill(kept)
    for path in kept.iterdir():
        (site.scans / path.name).symlink_to(path)
    site.run()
    gone = kept / "S26-0_A1_HE.svs"
    gone.unlink()
    assert blamed(site, site.scans / gone.name)
    assert site.run(1)[gone.name] == "quarantined"
    assert site.scan.report.unreadable_folders == 0
    assert site.rows()[gone.name].reason == "vanished"


@pytest.mark.parametrize("what", ["folder", "only file"])
def test_slides_that_wait_for_what_their_links_lead_to_are_told(site: Site, what: str) -> None:
    case = site.scans.with_name("archive") / "case"
    fill(case, 1 if what == "only file" else 3)
    for path in case.iterdir():
        (site.scans / path.name).symlink_to(path)
    site.run()
    away = case.rename(case.with_name("away"))
    if what == "only file":
        case.mkdir()
    (site.scans / "S26-9_A1_HE.svs").symlink_to(case / "never.svs")  # no slide was seen there
    for _ in range(2):
        assert set(site.run(1).values()) == {"arriving"}
        assert site.scan.report.unreadable_folders == 1
        assert not blamed(site, site.scans / "S26-0_A1_HE.svs")
    shutil.rmtree(case, ignore_errors=True)
    away.rename(case)
    site.run(WINDOW_S)
    assert set(site.run(200).values()) == {"arrived"}
    assert site.scan.report.unreadable_folders == 0


def test_a_link_that_is_removed_while_its_slide_waits_is_told_no_more(site: Site) -> None:
    case = site.scans.with_name("archive") / "case"
    fill(case, 1)
    link = site.scans / "S26-0_A1_HE.svs"
    link.symlink_to(case / link.name)
    fill(site.scans / "other", 1)
    site.run()
    shutil.rmtree(case)
    site.run(1)
    assert site.scan.report.unreadable_folders == 1
    link.unlink()
    assert site.run(1)[link.name] == "quarantined"
    assert site.scan.report.unreadable_folders == 0


@pytest.mark.parametrize("name", ["scanner1", "GT450.2", "scans.old", "Scanner 1.3.2"])
def test_a_link_to_a_folder_that_is_gone_is_told(site: Site, name: str) -> None:
    media = site.scans.with_name("media") / "scanner1"
    fill(media)
    (site.scans / name).symlink_to(media)
    (site.scans / "latest").symlink_to(media.with_name("nowhere"))  # no slides were seen there
    site.run()
    assert site.scan.report.unreadable_folders == 0
    media.rename(media.with_name("away"))
    for _ in range(2):
        site.run(1)
        assert site.scan.report.unreadable_folders == 1
    (site.scans / name).unlink()
    site.run(1)
    assert site.scan.report.unreadable_folders == 0


def test_a_folder_without_its_marker_is_away(site: Site) -> None:
    site.start(marker="this is the scanner")
    fill(site.scans)
    assert site.run() == {} and list(read_report(site.state).away.values()) == ["marker"]
    (site.scans / "this is the scanner").touch()
    assert len(site.run()) == 3
    for path in site.scans.glob("*.svs"):
        path.unlink()
    assert set(site.look(after_s=1).values()) == {"quarantined"}  # it is there, and they are gone


def test_start_from_now_leaves_alone_what_is_there(site: Site) -> None:
    fill(site.scans)
    fill(site.scans / "old")
    site.start(start_from_now=True)
    assert site.run() == {}
    (site.scans / "new.svs").write_bytes(b"II*\0")
    (site.scans / "old" / "S26-0_A1_HE.svs").write_bytes(b"II*\0 grown")
    wanted = {"new.svs": "arriving", "old/S26-0_A1_HE.svs": "arriving"}
    assert site.run(1) == wanted
    assert site.start(start_from_now=True).run(1) == wanted
    assert site.look(site.scans / "S26-1_A1_HE.svs") == wanted
    assert len(site.start().run(1)) == 7


def test_a_slide_that_comes_after_a_first_start_that_failed_is_new(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site.scans)
    fill(site.scans / "old")
    under = Listing.under

    def broken(listing: Listing, root: str) -> Iterator[Folder]:
        yield next(under(listing, root))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    site.start(start_from_now=True)
    with monkeypatch.context() as share:
        share.setattr(Listing, "under", broken)
        assert site.run() == {}
        (site.scans / "new.svs").write_bytes(b"II*\0")
        assert site.run(1) == {"new.svs": "arriving"}
    assert site.run(1) == {"new.svs": "arriving"}
    assert site.start(start_from_now=True).run(1) == {"new.svs": "arriving"}


def test_an_mrxs_folder_that_cannot_be_entered_does_not_put_off_the_first_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site.scans)
    data = site.scans / "z" / "S26-9_A1_HE"
    data.mkdir(parents=True)
    data.with_suffix(".mrxs").write_bytes(b"x")
    (data / "Slidedat.ini").write_text("x")

    def refuse(path: str) -> ListedFile:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(appliance.intake.found, "_listed", refuse)
    assert site.start(start_from_now=True).run() == {}
    (site.scans / "new.svs").write_bytes(b"II*\0")
    assert site.run(1) == {"new.svs": "arriving"}
    assert site.scan.report.unreadable_folders == 1


def remounted(folder: Path, step_ns: int) -> None:
    """Let a mount that counts in such steps tell the times of a folder's files."""
    for path in folder.iterdir():
        facts = path.stat()
        rounded_ns = -(-facts.st_mtime_ns // step_ns) * step_ns
        os.utime(path, ns=(facts.st_atime_ns, rounded_ns))


@pytest.mark.parametrize("step_ns", [100, 1_000_000_000, 2_000_000_000])
@pytest.mark.parametrize("former", [False, True])
def test_a_remount_that_rounds_times_takes_nothing_in(
    site: Site, step_ns: int, former: bool
) -> None:
    fill(site.scans)
    for number, path in enumerate(sorted(site.scans.iterdir())):
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number))
    site.start(start_from_now=True)
    assert site.run() == {}
    if former:  # as a former edition wrote it: exact times alone
        (record,) = site.state.glob("left_alone-*.txt")
        exact = {
            hashlib.blake2b(
                f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}".encode(), digest_size=8
            ).hexdigest()
            for path in site.scans.iterdir()
        }
        assert exact < set(record.read_text().split())
        record.write_text("".join(f"{line}\n" for line in sorted(exact)))
        (site.scans / "new.svs").write_bytes(b"II*\0")
        assert site.start(start_from_now=True).run() == {"new.svs": "arriving"}
        (site.scans / "new.svs").unlink()
        assert site.run() == {"new.svs": "quarantined"}
    before = site.states()
    remounted(site.scans, step_ns)
    assert site.start(start_from_now=True).run() == before
    assert site.look(site.scans / "S26-1_A1_HE.svs") == before
    path = site.scans / "S26-2_A1_HE.svs"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10_000_000_000))
    assert site.run() == before | {"S26-2_A1_HE.svs": "arriving"}


@pytest.mark.parametrize("step_ns", [100, 1_000_000, 2_000_000_000])
def test_a_remount_that_rounds_times_leaves_a_read_slide_read(site: Site, step_ns: int) -> None:
    path = write_svs(site.scans / "S26-0_A1_HE.svs")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert site.arrive() == {path.name: "arrived"}
    site.set(path.name, lambda row: setattr(row, "state", "read"))
    remounted(site.scans, step_ns)
    assert site.run() == {path.name: "read"}
    assert site.look(path) == {path.name: "read"}
    # Another file of that size, within the step.
    os.utime(path, ns=(0, 1_700_000_000_123_456_789 + step_ns // 2 + 3))
    assert site.run() == {path.name: "arriving"}


def test_the_first_start_waits_for_a_folder_that_is_away(site: Site) -> None:
    site.start(start_from_now=True, marker="here")
    assert site.run() == {}
    fill(site.scans)
    (site.scans / "here").touch()
    assert site.run() == {}  # they were there before
    (site.scans / "new.svs").write_bytes(b"II*\0")
    assert set(site.run()) == {"new.svs"}


def test_the_old_key_and_the_new_one_name_the_roots() -> None:
    assert Watch().roots == (Path("scans"),)
    assert Watch(folders=(Path("/a"), Path("/b"))).roots == (Path("/a"), Path("/b"))
    assert Watch(folder=Path("/c"), folders=(Path("/a"), Path("/c"))).roots == (
        Path("/c"),
        Path("/a"),
    )
