"""Time of a scan by the headers of scanners."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import openslide
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.slides.files import LATEST_NS
from appliance.slides.scan_time import UNKNOWN, day_of_file, scan_time


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"aperio.Date": "12/29/09", "aperio.Time": "09:59:15"}, "2009-12-29 09:59:15"),
        ({"aperio.Date": "11/20/2026", "aperio.Time": "1:05:00 PM"}, "2026-11-20 13:05:00"),
        ({"aperio.Date": "29/12/2009"}, "2009-12-29 00:00:00"),
        ({"dicom.AcquisitionDateTime": "20091229095915"}, "2009-12-29 09:59:15"),
        ({"dicom.AcquisitionDateTime": "20260102030405.25+0100"}, "2026-01-02 03:04:05"),
        ({"dicom.ContentDate": "20190822", "dicom.ContentTime": "113618"}, "2019-08-22 11:36:18"),
        ({"mirax.GENERAL.SLIDE_CREATIONDATETIME": "03/02/2026 15:26:17"}, "2026-02-03 15:26:17"),
        ({"philips.DICOM_ACQUISITION_DATETIME": "20160718122300.000000"}, "2016-07-18 12:23:00"),
        ({"leica.creation-date": "2011-10-05T21:43:24.123Z"}, "2011-10-05 21:43:24"),
        ({"hamamatsu.Created": "2009/12/31"}, "2009-12-31 00:00:00"),
        ({"tiff.DateTime": "2026:11:20 10:11:12"}, "2026-11-20 10:11:12"),
        # The scanner's word comes before that of the program that wrote the file.
        (
            {"aperio.Date": "12/29/09", "aperio.Time": "09:59:15", "tiff.DateTime": "2026:01:01"},
            "2009-12-29 09:59:15",
        ),
    ],
)
def test_headers_of_scanners(properties: dict[str, str], told: str) -> None:
    wanted = datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()
    assert scan_time(properties) == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4/29/2014 1:16:14 PM", "2014-04-29 13:16:14"),
        ("4/9/2014 1:16:14 PM", "2014-04-09 13:16:14"),
        ("05.02.2026 09:10:11", "2026-02-05 09:10:11"),
        ("5. 2. 2026. 9:10:11", "2026-02-05 09:10:11"),
        ("05-02-2026 09:10:11", "2026-02-05 09:10:11"),
        ("29/04/2026 01:16:14 p. m.", "2026-04-29 13:16:14"),
        ("29/04/2026 01:16:14 p.m.", "2026-04-29 13:16:14"),
        ("29/04/2026 12:16:14 a.\N{NO-BREAK SPACE}m.", "2026-04-29 00:16:14"),
        ("05/05/2026 13:16:14", "2026-05-05 13:16:14"),
        ("2026/4/29 13:16:14", "2026-04-29 13:16:14"),
        ("2026. 04. 29. 13:16:14", "2026-04-29 13:16:14"),
        # Which half of the day it was is not known.
        ("2026-04-29 \uc624\ud6c4 1:16:14", "2026-04-29 00:00:00"),
        ("29/4/2026 1:16:14 \u03bc\u03bc", "2026-04-29 00:00:00"),
        ("2026/4/29 13:16:14 \u03bc\u03bc", "2026-04-29 13:16:14"),
    ],
)
def test_dates_of_other_countries(text: str, told: str) -> None:
    wanted = datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()
    assert scan_time({"ventana.ScanDate": text}) == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("8/9/2014 09:44:30", "2014-08-09 09:44:30"),
        ("08/09/2014 09:44:30", "2014-08-09 09:44:30"),
        ("08/09/2014 01:44:30 PM", "2014-08-09 13:44:30"),
        ("8/9/2017 12:04:52 PM", "2017-08-09 12:04:52"),
        ("8/9/2017 12:04:52\N{NARROW NO-BREAK SPACE}PM", "2017-08-09 12:04:52"),
        ("8/9/2017 1:04:52\N{NO-BREAK SPACE}pm", "2017-08-09 13:04:52"),
        ("8/9/2017", "2017-08-09 00:00:00"),
    ],
)
def test_with_slashes_the_month_is_first_unless_the_site_says_the_day(text: str, told: str) -> None:
    wanted = datetime.fromisoformat(told).replace(tzinfo=UTC)
    header = {"ventana.ScanDate": text}
    assert scan_time(header) == wanted.timestamp()
    turned = wanted.replace(month=9, day=8)
    assert scan_time(header, day_first=True) == turned.timestamp()
    august = datetime(2017, 8, 9, tzinfo=UTC).timestamp()
    assert scan_time({"aperio.Date": "8/9/2017"}, day_first=True) == august


@pytest.mark.parametrize(
    "properties",
    [
        {"ventana.ScanDate": "05/02/2026 01:16:14 p. m."},
        {"ventana.ScanDate": "5/2/2026 1:16:14 p.\N{NO-BREAK SPACE}m."},
        {"ventana.ScanDate": "5/2/2026 1:16:14", "tiff.DateTime": "15/2/2026"},
        {"aperio.Date": "05.02.2026"},
        {"aperio.Date": "05-02-2026"},
    ],
)
def test_a_day_that_may_be_the_month_has_no_order(properties: dict[str, str]) -> None:
    assert scan_time(properties) == UNKNOWN


@pytest.mark.parametrize(
    "rest",
    [
        "",
        ",123",
        ".5",
        ":123",
        "+01",
        "_+0100",
        "Z",
        "_UTC+1",
        "_(UTC)",
        "_CEST",
        "_GMT+01:00",
        "_Europe/Berlin",
        "_Uhr",
        "\x00",
    ],
)
def test_the_hour_of_a_morning_stays_beside_what_is_no_half_of_the_day(rest: str) -> None:
    wanted = datetime(2026, 2, 5, 9, 14, 15, tzinfo=UTC).timestamp()
    assert scan_time({"tiff.DateTime": f"2026-02-05 09:14:15{rest.replace('_', ' ')}"}) == wanted


@pytest.mark.parametrize(
    "text", ["", "0000:00:00 00:00:00", "1970:01:01 00:00:00", "31/31/2026", "soon", "2026"]
)
def test_no_date_is_none(text: str) -> None:
    assert scan_time({"tiff.DateTime": text, "aperio.Date": text}) == 0.0


@given(st.text(max_size=40))
def test_any_text_is_read_or_left_out(text: str) -> None:
    assert scan_time({"tiff.DateTime": text, "aperio.Date": text, "aperio.Time": text}) >= UNKNOWN


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CMU-1-Small-Region.svs", "2009-12-29 09:59:15"),
        ("sm_image.dcm", "2009-12-29 09:59:15"),
    ],
)
def test_real_slides(real: Path, name: str, told: str) -> None:
    with openslide.OpenSlide(real / "slides" / name) as slide:
        found = scan_time(slide.properties)
    assert found == datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()


def test_a_file_tells_its_day_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.touch()
    noon = datetime(2026, 11, 20, 12, 30).timestamp()
    os.utime(path, (noon, noon))
    wanted = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    assert day_of_file(path.stat().st_mtime_ns, noon) == wanted


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_a_file_of_an_odd_time_wins_over_no_other(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    now = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    try:
        assert day_of_file(0, now) == day_of_file(-LATEST_NS, now) == 0.0
        assert day_of_file(LATEST_NS, now) == UNKNOWN
        assert day_of_file(int((now + 3600) * 1e9), now) > 0.0
    finally:
        monkeypatch.undo()
        time.tzset()
