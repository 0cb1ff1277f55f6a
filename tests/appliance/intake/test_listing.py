"""Listing: junk, ignored and special files, links, formats that cannot be read, MRXS and NDPIS."""

from __future__ import annotations

import configparser
import errno
import hashlib
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from fixtures.site import PATIENCE_S, WINDOW_S, Site

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.intake.completeness import is_whole
from appliance.intake.report import read_report
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings
from appliance.slides import dicom_header
from appliance.slides.files import fingerprint, fingerprints
from appliance.slides.untouched import open_untouched


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_what_servers_and_programs_leave_is_left_out(site: Site) -> None:
    junk = "#recycle @eaDir @Recycle .snapshot ~snapshot $RECYCLE.BIN lost+found .Trash-1000"
    folders = [*junk.split(), "System Volume Information", "@GMT-2026.01.01-00.00.00", ".zfs"]
    touch(
        site.scans, *(f"{folder}/a.svs" for folder in folders), *(f"in/{f}/b.svs" for f in folders)
    )
    touch(site.scans, "~$a.svs", "._a.svs", ".a.svs", "a.svs.tmp", "a.svs.part", "b.svs.filepart")
    touch(site.scans, ".DS_Store", "Thumbs.db", "a.xml", "a.jpg")
    touch(site.scans, "real/a.svs", "#1/a.svs")
    assert set(site.run()) == {"real/a.svs", "#1/a.svs"}


def test_ignored_globs(site: Site) -> None:
    touch(site.scans, "test/a.svs", "x/test/b.svs", "x/testing/c.svs", "cal_1.svs", "cal/d.svs")
    site.start(ignore=["*/test/*", "cal_*"])
    assert set(site.run()) == {"x/testing/c.svs", "cal/d.svs"}
    assert set(site.look(site.scans / "x" / "test" / "b.svs")) == {"x/testing/c.svs", "cal/d.svs"}


def test_a_pattern_that_is_added_ends_what_was_arriving(site: Site) -> None:
    touch(site.scans, "test/a.svs")
    site.run()
    assert site.start(ignore=["*/test/*"]).run() == {"test/a.svs": "quarantined"}
    assert site.rows()["test/a.svs"].reason == "vanished"


def test_special_files_are_left_out(site: Site) -> None:
    os.mkfifo(site.scans / "a.svs")
    os.mkfifo(site.scans / "nosuffix")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(site.scans / "b.dcm"))
        (site.scans / "c.svs").mkdir()
        (site.scans / "d.svs").symlink_to("gone.svs")
        assert site.run() == {}


def test_links_are_followed_once(site: Site, tmp_path: Path) -> None:
    touch(site.scans, "real/a.svs")
    touch(tmp_path / "outside", "b.svs", "c.svs")
    (site.scans / "loop").symlink_to(site.scans)
    (site.scans / "real" / "up").symlink_to("..")
    (site.scans / "same.svs").symlink_to(site.scans / "real" / "a.svs")
    (site.scans / "other").symlink_to(tmp_path / "outside")
    (site.scans / "other2").symlink_to(tmp_path / "outside")
    (site.scans / "own").symlink_to(site.state)
    touch(site.state, "archive/d.dcm")
    assert len(site.run()) == 3
    assert "real/a.svs" in site.states()


def test_formats_that_cannot_be_read_are_said_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    names = [f"S26-{i}_A1_HE.isyntax" for i in range(10)] + ["a.CZI", "b.czi", "c.vsi", "d.jp2"]
    touch(site.scans, *names, "_c_/stack1/frame_t_0.ets", "e.qptiff", "f.zarr/0/x.svs")
    for _ in range(3):
        assert site.run(1) == {}
    touch(site.scans, "new.isyntax")
    site.start().run()
    (line,) = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert line.endswith(": .czi .isyntax .jp2 .qptiff .vsi .zarr")
    assert read_report(site.state).formats[".isyntax"] == 11


def test_the_channels_of_a_fluorescence_set_are_left_alone_with_it(site: Site) -> None:
    touch(site.scans, "set-DAPI.ndpi", "set-FITC.ndpi", "S26-1_A1_HE.ndpi")
    (site.scans / "set.ndpis").write_text(
        "[NanoZoomer Digital Pathology Image Set]\r\nNoImages=2\r\n"
        "Image0=set-DAPI.ndpi\r\nImage1=set-FITC.ndpi\r\n"
    )
    assert set(site.run()) == {"S26-1_A1_HE.ndpi"}
    assert site.scan.report.formats == {".ndpis": 1}


@pytest.mark.parametrize("look", [False, True], ids=["scan", "look"])
def test_the_channels_of_an_afi_set_are_left_alone_with_it(site: Site, look: bool) -> None:
    site.run()
    (site.scans / "set.afi").write_text(
        "<ImageList><Image><Path>set &amp; 1_DAPI.svs</Path></Image>"
        "<Image><Path>D:\\scans\\set_FITC.svs</Path></Image></ImageList>"
    )
    names = ["set & 1_DAPI.svs", "set_FITC.svs", "S26-1_A1_HE.svs"]
    touch(site.scans, *names)
    found = site.look(*(site.scans / name for name in names)) if look else site.run()
    assert set(found) == {"S26-1_A1_HE.svs"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_set_is_read_as_windows_writes_it(site: Site, encoding: str) -> None:
    touch(site.scans, "Müller_DAPI.ndpi", "plain-fitc.ndpi", "Müller_CY5.svs", "S26-1_A1_HE.svs")
    (site.scans / "set.ndpis").write_bytes(
        "[NanoZoomer Digital Pathology Image Set]\r\nNoImages=2\r\n"
        "Image0=Müller_DAPI.ndpi\r\nimage1 = D:\\scans\\Plain-FITC.NDPI \r\n".encode(encoding)
    )
    (site.scans / "set.afi").write_bytes("<Path>\r\n müller_CY5.svs </Path>".encode(encoding))
    assert set(site.run()) == {"S26-1_A1_HE.svs"}


@pytest.mark.parametrize(("encoding", "folder"), [("cp932", "スキャン"), ("cp1250", "Pošť")])
def test_names_of_a_set_in_another_code_page_are_read_where_they_are_ascii(
    site: Site, encoding: str, folder: str
) -> None:
    touch(site.scans, "S26-1_DAPI.ndpi", "S26-1_FITC.svs", "S26-2_CY5.svs", "S26-1_A1_HE.svs")
    text = f"NoImages=1\r\nImage0=D:\\{folder}\\S26-1_DAPI.ndpi\r\n"
    (site.scans / "a.ndpis").write_bytes(text.encode(encoding))
    text = f"<Path>D:\\{folder}\\S26-1_FITC.svs</Path>"
    (site.scans / "a.afi").write_bytes(text.encode(encoding))
    (site.scans / "b.afi").write_bytes(b"<Path>S26-2_CY5.svs</Path>\r\n\0")
    assert set(site.run()) == {"S26-1_A1_HE.svs"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.afi", "<Path>" + " " * 60_000),
        ("a.afi", "<Path>" * 10_000),
        ("a.ndpis", "image0=" + " " * 60_000 + "\nimage1=x"),
        ("a.ndpis", "image0 " + " " * 60_000),
    ],
)
def test_the_time_of_a_look_at_a_set_does_not_grow_with_what_is_in_it(
    site: Site, name: str, text: str
) -> None:
    (site.scans / name).write_text(text)
    # In a process, so that a pattern that takes hours fails the test and does not stop it.
    look = "import sys; from appliance.intake.formats import channels_of; channels_of(sys.argv[1])"
    subprocess.run([sys.executable, "-c", look, str(site.scans / name)], check=True, timeout=600)


@pytest.mark.parametrize("look", [False, True], ids=["scan", "look"])
def test_channels_that_come_before_their_set_are_no_trouble(site: Site, look: bool) -> None:
    def see(*paths: Path) -> dict[str, str]:
        return site.look(*paths, after_s=1) if look else site.run(1)

    names = ["set_DAPI.svs", "set_FITC.svs", "S26-1_A1_HE.svs"]
    site.run()
    touch(site.scans, *names)
    assert set(see(*(site.scans / name for name in names)).values()) == {"arriving"}
    of_set = "".join(f"<Image><Path>{name}</Path></Image>" for name in names[:2])
    (site.scans / "set.afi").write_text(of_set)
    ended = dict.fromkeys(names[:2], "superseded") | {names[2]: "arriving"}
    assert see(site.scans / "set.afi") == ended
    assert {row.reason for row in site.rows().values()} == {""}
    states = site.run(PATIENCE_S)
    assert states == ended | {names[2]: states[names[2]]}
    (site.scans / "set.afi").unlink()  # it was another's: they are slides after all
    assert set(site.run().values()) <= {"arriving", "arrived"}


def test_a_folder_named_as_a_format_is_entered(site: Site) -> None:
    touch(site.scans, "Batch.MDS/S26-1_A1_HE.svs", "day.zip/S26-2_A1_HE.svs", "a.zarr/0.svs")
    assert set(site.run()) == {"Batch.MDS/S26-1_A1_HE.svs", "day.zip/S26-2_A1_HE.svs"}
    assert site.scan.report.formats == {".zarr": 1}


def test_a_slide_whose_bytes_lie_under_another_name_is_known_by_its_link(site: Site) -> None:
    touch(site.scans, "blobs/a1b2", "blobs/real.svs")
    (site.scans / "S26-1_A1_HE.svs").symlink_to(site.scans / "blobs" / "a1b2")
    (site.scans / "S26-2_A1_HE.svs").symlink_to(site.scans / "blobs" / "real.svs")
    assert set(site.run()) == {"S26-1_A1_HE.svs", "blobs/real.svs"}


def test_a_tiff_in_the_folder_of_an_mrxs_slide_is_none_of_its_own(site: Site) -> None:
    slide = mrxs(site.scans)
    site.run()
    inner = slide.with_suffix("") / "S26-2_A1_HE.tif"
    inner.write_bytes(b"x")
    assert set(site.look(inner)) == {slide.name}
    new = site.scans / "new" / "deep" / "S26-3_A1_HE.tif"
    touch(site.scans, str(new.relative_to(site.scans)))
    assert set(site.look(new)) == {slide.name, str(new.relative_to(site.scans))}


def test_a_folder_named_as_a_slide_hides_no_other(site: Site, tmp_path: Path) -> None:
    touch(site.scans, "day/S26-1_A1_HE.svs", "day.mrxs/S26-2_A1_HE.svs")
    touch(site.scans, "_day_/S26-3_A1_HE.svs", "day.vsi/S26-4_A1_HE.svs")
    (site.scans / "_day_.mrxs").symlink_to(tmp_path)
    assert len(site.run()) == 4


def test_a_slide_of_sakura_is_whole_with_all_its_pages(site: Site) -> None:
    slide = site.scans / "S26-1_A1_HE.svslide"
    with sqlite3.connect(slide) as database:
        database.execute("CREATE TABLE DataManagerSQLiteConfigXPO (TableName)")
    database.close()
    whole = slide.read_bytes()
    for part in (whole[:-1], whole[:50], b"", b"II*\0" + bytes(200)):
        slide.write_bytes(part)
        assert site.arrive() == {slide.name: "arriving"}
    slide.write_bytes(whole)
    # Each write leaves a whole database: the next one may be to come.
    assert site.arrive() == {slide.name: "arriving"}
    assert site.run(PATIENCE_S) == {slide.name: "arrived"}
    assert site.rows()[slide.name].params == "{}"  # not as one that is not whole


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_slide_of_sakura_beside_its_journal_is_not_whole(tmp_path: Path, end: str) -> None:
    slide = tmp_path / "S26-1_A1_HE.svslide"
    database = sqlite3.connect(slide)
    database.execute(f"PRAGMA journal_mode={'WAL' if end == '-wal' else 'PERSIST'}")
    database.execute("CREATE TABLE t (b)")
    database.commit()
    assert (tmp_path / f"{slide.name}{end}").stat().st_size
    assert not is_whole(slide, [slide])
    database.close()
    (tmp_path / f"{slide.name}{end}").unlink(missing_ok=True)
    assert is_whole(slide, [slide])


def test_a_slidedat_that_is_larger_than_openslide_takes_is_not_parsed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = mrxs(site.scans)
    ini = slide.with_suffix("") / "Slidedat.ini"
    ini.write_text(ini.read_text() + "[MORE]\n" + "".join(f"k{i}=v\n" for i in range(200_000)))
    assert ini.stat().st_size > 1 << 20

    def refuse(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(configparser.ConfigParser, "read_file", refuse)
    assert site.arrive() == {slide.name: "arriving"}
    assert site.run(PATIENCE_S) == {slide.name: "arrived"}  # the step says why it does not open


@pytest.mark.parametrize("junk", ["@eaDir", "deep"])
def test_only_the_slides_own_folders_must_be_entered(
    site: Site, junk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server keeps its own folders to itself."""
    slide = mrxs(site.scans)
    touch(slide.with_suffix(""), f"{junk}/x")
    scandir = os.scandir

    def answer(path: str) -> object:
        if Path(path).name == junk:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", answer)
    assert site.arrive() == {slide.name: "arrived" if junk == "@eaDir" else "arriving"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("mode", [0o000, 0o311, 0o644, None])
def test_a_slide_whose_folder_is_closed_or_missing_is_held(
    open_site: Site, mode: int | None
) -> None:
    site, user = open_site, os.geteuid()
    slide = mrxs(site.scans)
    new = mrxs(site.scans, "S26-2_A1_HE.mrxs")
    site.run()
    site.set(slide.name, lambda row: setattr(row, "state", "read"))
    for path in (slide, new):
        data = path.with_suffix("")
        data.rename(site.scans.parent / data.name) if mode is None else data.chmod(mode)
    for path in (site.state, *site.state.rglob("*")):
        os.chown(path, 65534, 65534)
    try:
        os.seteuid(65534)  # root enters every folder
        for _ in range(2):
            states = site.arrive()
            assert states == {slide.name: "read", new.name: "arriving"}
        assert site.scan.report.unreadable_folders == (0 if mode is None else 2)
        assert site.run(PATIENCE_S) == {slide.name: "read", new.name: "arrived"}
        with pytest.raises((SlideError, PermissionError)) as caught:
            identify_slide(new, Settings(state_dir=site.state))
        if mode is None:
            assert isinstance(caught.value, SlideError)
            assert caught.value.reason is QuarantineReason.VANISHED
            site.set(new.name, set_aside)
            assert site.arrive()[new.name] == "quarantined"  # as long as its folder is missing
    finally:
        os.seteuid(user)
    for path in (slide, new):
        data = path.with_suffix("")
        (site.scans.parent / data.name).rename(data) if mode is None else data.chmod(0o755)
    assert site.arrive() == {slide.name: "read", new.name: "arrived"}


def set_aside(row: SlideRow) -> None:
    row.state, row.reason = SlideState.QUARANTINED, QuarantineReason.VANISHED


@pytest.fixture
def open_site() -> Iterator[Site]:
    """A site that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        made = Site(Path(folder))
        yield made
        made.ledger.close()


def mrxs(folder: Path, name: str = "S26-1_A1_HE.mrxs") -> Path:
    """Write an MRXS slide whose Index.dat names 300 bytes of the second data file."""
    slide = folder / name
    data = slide.with_suffix("")
    data.mkdir()
    slide.write_bytes(b"x")
    (data / "Slidedat.ini").write_text(
        "[GENERAL]\nSLIDE_ID = ABC\n[HIERARCHICAL]\nINDEXFILE = Index.dat\nHIER_COUNT = 1\n"
        "HIER_0_NAME = Slide zoom level\nHIER_0_COUNT = 1\n"
        "[DATAFILE]\nFILE_COUNT = 2\nFILE_0 = Data0000.dat\nFILE_1 = Data0001.dat\n"
    )
    head = b"01.02ABC" + struct.pack("<ii", 16, 0)
    record = struct.pack("<i", 20)
    page = struct.pack("<ii", 0, 28) + struct.pack("<ii4i4i", 2, 0, 0, 0, 9, 0, 1, 100, 200, 1)
    (data / "Index.dat").write_bytes(head + record + page)
    (data / "Data0000.dat").write_bytes(bytes(9))
    (data / "Data0001.dat").write_bytes(bytes(300))
    return slide


@pytest.mark.parametrize("suffix", [".mrxs", ".MRXS"])
def test_an_mrxs_slide_waits_for_all_its_parts(site: Site, suffix: str) -> None:
    slide = mrxs(site.scans, f"S26-1_A1_HE{suffix}")
    assert site.arrive() == {slide.name: "arrived"}
    data = slide.with_suffix("")
    for name in ("Data0001.dat", "Data0000.dat", "Index.dat", "Slidedat.ini"):
        whole = (data / name).read_bytes()
        for part in (b"", whole[: len(whole) // 2]):
            (data / name).write_bytes(part)
            site.arrive()
            assert site.run(WINDOW_S) == {slide.name: "arriving"}, (name, len(part))
        (data / name).unlink()
        site.arrive()
        assert site.run(WINDOW_S) == {slide.name: "arriving"}, name
        (data / name).write_bytes(whole)
        site.arrive()
        assert site.run(WINDOW_S) == {slide.name: "arrived"}
    assert site.look(data / "Data0001.dat") == {slide.name: "arrived"}
    (data / "Data0001.dat").write_bytes(bytes(400))
    assert site.look(data / "Data0001.dat") == {slide.name: "arriving"}
    slide.unlink()
    assert site.look(after_s=PATIENCE_S) == {slide.name: "quarantined"}


@pytest.mark.parametrize("junk", [".DS_Store", "Thumbs.db", "@eaDir/Data0000.dat@SynoEAStream"])
def test_what_servers_leave_in_the_folder_of_an_mrxs_slide_is_no_part_of_it(
    site: Site, junk: str
) -> None:
    slide = mrxs(site.scans)
    assert site.arrive() == {slide.name: "arrived"}
    before = fingerprint(slide)
    by_name = sorted(slide.with_suffix("").iterdir())
    digests = [hashlib.sha256(file.read_bytes()).digest() for file in (slide, *by_name)]
    assert before == hashlib.sha256(b"".join(digests)).hexdigest()  # that of former editions
    site.set(slide.name, lambda row: setattr(row, "state", "read"))
    touch(slide.with_suffix(""), junk)
    assert site.run() == {slide.name: "read"}
    assert site.look(slide.with_suffix("") / "Data0001.dat") == {slide.name: "read"}
    assert fingerprint(slide) == before
    # A former edition counted it; a slide that it identified so keeps that fingerprint.
    assert fingerprints(slide)[1] != before
    touch(slide.with_suffix(""), "Data0002.dat")
    assert fingerprint(slide) != before
    assert site.run() == {slide.name: "arriving"}


@pytest.mark.parametrize("state", ["read", "quarantined", "superseded"])
@pytest.mark.parametrize("junk", [".DS_Store", "Thumbs.db", "@eaDir/Data0000.dat@SynoEAStream"])
def test_an_mrxs_slide_of_which_a_former_edition_counted_junk_is_not_taken_up_anew(
    site: Site, junk: str, state: str
) -> None:
    slide = mrxs(site.scans)
    site.arrive()
    now = site.rows()[slide.name]
    touch(slide.with_suffix(""), junk)
    later_ns = now.modified_ns + 60 * 10**9
    os.utime(slide.with_suffix("") / junk, ns=(later_ns, later_ns))

    def as_before(row: SlideRow) -> None:
        row.size_bytes, row.modified_ns, row.state = now.size_bytes + 1, later_ns, state

    site.set(slide.name, as_before)
    with site.ledger.transaction() as tx:
        events = len(tx.events(now.subject))
    assert site.run() == {slide.name: state}
    assert site.run(WINDOW_S) == {slide.name: state}
    row = site.rows()[slide.name]
    assert (row.size_bytes, row.modified_ns) == (now.size_bytes, now.modified_ns)
    assert not site.scan.busy
    with site.ledger.transaction() as tx:
        assert len(tx.events(now.subject)) == events
    (slide.with_suffix("") / junk).unlink()
    assert site.run() == {slide.name: state}
    # A data file that changed is a change, whatever lies beside it.
    site.set(slide.name, as_before)
    touch(slide.with_suffix(""), junk, "Data0002.dat")
    assert site.run() == {slide.name: "arriving"}


def test_an_index_of_mrxs_that_leads_nowhere_ends(site: Site) -> None:
    slide = mrxs(site.scans)
    index = slide.with_suffix("") / "Index.dat"
    data = bytearray(index.read_bytes())
    data[32:36] = struct.pack("<i", 28)  # the page names itself as the next one
    index.write_bytes(data)
    assert site.arrive() == {slide.name: "arrived"}
    data[28:32] = struct.pack("<i", 2**31 - 1)
    index.write_bytes(data)
    assert site.arrive() == {slide.name: "arriving"}


WRAPPED = """
a.zip a.dcm.zip a.tar a.svs.gz a.btf a.bigtiff a.ome.tf2 a.tf8 a.mds a.szi a.afi a.tron a.ets
"""
UNKNOWN = "a.svs_ a.svs.1 a.meier S26-1.S26-2 a.unheard nosuffix"


def test_slides_in_other_wrappings_are_said_once_and_without_their_names(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    read: list[str] = []

    def opened(path: Path | str) -> BinaryIO:
        read.append(str(path))
        return open_untouched(path)

    monkeypatch.setattr(dicom_header, "open_untouched", opened)
    names = [*WRAPPED.split(), *UNKNOWN.split(), "b.xml", "b.jpg", "b.dcm.part", "b.tandem.toml"]
    for name in names:
        (site.scans / name).write_bytes(bytes(200))
    touch(site.scans, "just-begun")
    for _ in range(3):
        assert site.run(1) == {}
    formats = dict(site.scan.report.formats)
    assert formats.pop("other") == len(UNKNOWN.split())
    assert set(formats) == {f".{name.rpartition('.')[2]}" for name in WRAPPED.split()}
    (line,) = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert line.endswith(" other") and ".szi" in line
    assert not any(word in caplog.text for word in ("meier", "s26", "S26", "unheard"))
    # Bytes of a file that did not change are looked at once.
    looked = sorted(Path(path).name for path in read if "begun" not in path)
    assert looked == sorted(UNKNOWN.split())


@pytest.mark.parametrize("name", ["1.2.3.4_L0", "HP19.754_A5_HE", "a.dcm;1", "a.ima", "a.dic"])
def test_dicom_of_any_suffix_is_a_slide_by_its_first_bytes(site: Site, name: str) -> None:
    header = struct.pack("<HH2sH", 8, 0x60, b"CS", 2) + b"SM"
    series = struct.pack("<HH2sH", 0x20, 0xE, b"UI", 6) + b"1.2.3\0"
    data = bytes(128) + b"DICM" + header + series
    (site.scans / name).write_bytes(data)
    (site.scans / f"{name}.part").write_bytes(data)
    assert site.run() == {name: "arriving"}
    assert "other" not in site.scan.report.formats
