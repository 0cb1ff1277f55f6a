"""Pictures of a case: ``tandem picture`` makes and keeps them, the case's page offers them."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from fixtures.case_objects import BLANK
from fixtures.damage import flip
from PIL import Image
from streamlit.testing.v1 import AppTest

from appliance.artifacts import ArtifactStore
from appliance.delivery.pictures.make import pictures_key
from appliance.domain import HE, HER2
from appliance.errors import SettingsError
from appliance.findings.codec import save_findings
from appliance.findings.findings import Findings
from appliance.ledger.lifecycle import CaseState
from appliance.operations.picture import LEVELS, WHATS, write_pictures
from appliance.readers.tile_pass import silent
from dashboard.queries import read_case
from dashboard.stored import ResultDamagedError
from dashboard.views import look
from dashboard.views.pictures import kept_pictures, zipped

if TYPE_CHECKING:
    from conftest import Lab

ACCESSION = "S26-0000001"


@pytest.fixture
def case_id(lab: Lab, findings: Findings) -> int:
    """Return a scored case; its slides' files are gone."""
    number = lab.slide(ACCESSION, HE)
    lab.slide(ACCESSION, HER2)
    lab.move_case(number, CaseState.READY)
    lab.score(number, findings)
    return number


def test_whole_slides_need_no_file_and_names_hold_no_accession(
    lab: Lab, case_id: int, tmp_path: Path
) -> None:
    subject, out = f"case-{case_id}", tmp_path / "out"
    given = (lab.settings, subject, out, WHATS, ("slide",), silent)
    files = write_pictures(*given, attention=True)
    assert [file.name for file in files] == [f"{subject}-he-slide.png", f"{subject}-ihc-slide.png"]
    assert not any(ACCESSION.encode() in file.read_bytes() for file in files)
    before = [file.read_bytes() for file in files]
    # Pictures of an earlier result go, of which there may have been more; nothing else does.
    for name in (f"{subject}-he-slide-03.png", f"{subject}-he-patch-01.png", "mine.png"):
        (out / name).write_bytes(b"earlier")
    write_pictures(*given, attention=True)
    names = {file.name for file in out.iterdir()}
    assert names == {*(file.name for file in files), f"{subject}-he-patch-01.png", "mine.png"}
    # What is kept is what was written: a damaged copy is made again.
    row = lab.rows()[1][0]
    kept = ArtifactStore(lab.settings.artifacts_dir).path(
        pictures_key(row.findings_key, "he", "slide", attention=True)
    )
    (kept / files[0].name).write_bytes(b"damaged")
    assert [file.read_bytes() for file in write_pictures(*given, attention=True)] == before


def test_what_cannot_be_drawn_is_told_with_what_can(lab: Lab, case_id: int, tmp_path: Path) -> None:
    subject = f"case-{case_id}"
    # Other weights than those that scored are in use, and the slides' files are gone.
    given = (lab.settings, subject, tmp_path, ("he",), ("patch",), silent)
    with pytest.raises(SettingsError, match=r"tandem weights use.*tandem rerun.*--no-attention"):
        write_pictures(*given, attention=True)
    given = (lab.settings, subject, tmp_path, ("ihc",), ("roi",), silent)
    with pytest.raises(SettingsError, match=r"HER2 IHC slide cannot be shown.*--level slide"):
        write_pictures(*given, attention=False)
    assert not list(tmp_path.glob("*.png"))
    assert not list((lab.settings.artifacts_dir / "pictures").iterdir())


def test_what_is_no_case_and_a_case_without_a_result_are_told(lab: Lab, tmp_path: Path) -> None:
    number = lab.slide(ACCESSION, HE)
    told = {"case-99": "tandem status", "slide-1": "tandem status", "nowhere": "findings.json"}
    for subject, words in (told | {f"case-{number}": "no result yet"}).items():
        given = (lab.settings, subject, tmp_path, WHATS, LEVELS, silent)
        with pytest.raises(SettingsError, match=words):
            write_pictures(*given, attention=False)


def test_a_case_and_a_folder_of_one_name_are_told_apart(
    lab: Lab, case_id: int, findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = f"case-{case_id}"
    (tmp_path / subject).mkdir()
    save_findings(findings, tmp_path / subject, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
    monkeypatch.chdir(tmp_path)
    given = (tmp_path / "out", ("he",), ("slide",), silent)
    with pytest.raises(SettingsError, match=rf"a folder here too.*\./{subject}"):
        write_pictures(lab.settings, subject, *given, attention=False)
    (file,) = write_pictures(lab.settings, f"./{subject}", *given, attention=False)
    assert file.name.startswith("pair-")


def case_page() -> None:
    from dashboard.views import case

    case.render()


def test_the_page_offers_whole_slides_and_what_the_command_kept(
    lab: Lab, case_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "settings", lambda: lab.settings)

    def offered() -> tuple[str, list[str]]:
        page = AppTest.from_function(case_page)
        page.query_params["case"] = str(case_id)
        page.run(timeout=180)
        assert not page.exception
        (button,) = page.get("download_button")
        assert button.proto.label == "Download pictures (ZIP)"
        detail = read_case(look.ledger(), lab.settings, case_id)
        assert detail is not None and detail.findings_folder is not None
        data = zipped(f"case-{case_id}", detail.findings_folder, kept_pictures(detail))
        with ZipFile(BytesIO(data)) as archive:
            for name in archive.namelist():
                Image.open(BytesIO(archive.read(name))).load()
            names = archive.namelist()
        assert not any(ACCESSION in name for name in names)
        markup = "".join(element.proto.body for element in page.get("html"))
        return markup, names

    whole = [f"case-{case_id}-{what}-slide.png" for what in ("he", "ihc")]
    markup, names = offered()
    assert names == whole and f"tandem picture case-{case_id} --out FOLDER" in markup
    row = lab.rows()[1][0]
    key = pictures_key(row.findings_key, "he", "patch", attention=False)
    store = ArtifactStore(lab.settings.artifacts_dir)
    with store.writing(key) as folder:
        Image.new("RGB", (8, 8)).save(folder / f"case-{case_id}-he-patch-01.png")
    markup, names = offered()
    assert names == [*whole, f"case-{case_id}-he-patch-01.png"]
    assert "with 1 of tiles and regions" in markup
    # A picture that is not what was written is not offered.
    flip(store.path(key) / f"case-{case_id}-he-patch-01.png")
    assert offered()[1] == whole
    flip(store.path(key) / f"case-{case_id}-he-patch-01.png")
    # Nor is anything where an overview is not what was written.
    folder = lab.settings.artifacts_dir / row.findings_key
    overview = folder / "ihc_thumbnail.png"
    flip(overview)
    page = AppTest.from_function(case_page)
    page.query_params["case"] = str(case_id)
    page.run(timeout=180)
    assert not page.exception and not page.get("download_button")
    markup = "".join(element.proto.body for element in page.get("html"))
    assert "damaged (ihc_thumbnail.png is not what was written). Analyze the case again" in markup
    with pytest.raises(ResultDamagedError, match="ihc_thumbnail"):
        zipped(f"case-{case_id}", folder, [])
    flip(overview)
    # Pictures of an earlier result are not offered with the present one.
    detail = read_case(look.ledger(), lab.settings, case_id)
    assert detail is not None and kept_pictures(replace(detail, findings_key="findings/0")) == []
