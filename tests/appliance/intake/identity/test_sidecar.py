"""Sidecars as people and Windows write them: read where they are plain, else named with a line."""

from __future__ import annotations

import codecs
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fixtures.odd_tiffs import write_level
from fixtures.slide_objects import write_svs
from hypothesis import given, settings
from hypothesis import strategies as st
from tifffile import TiffWriter

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.intake.identity.sidecar import (
    Sidecar,
    has_sidecar,
    read_sidecar,
    sidecar_path,
    slides_beside,
)
from appliance.line.analyze_slide import identify_slide, open_facts
from appliance.settings.settings import Settings

NAME = "S26-00031_A1_HER2"
PLAIN = 'accession = "S26-00031"\r\nmpp = 0,25\r\norgan = "gastric"\r\n'


def written(folder: Path, data: bytes | str, name: str = f"{NAME}.tandem.toml") -> Path:
    """Write a sidecar; return the path of the slide beside it."""
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    slide = folder / f"{NAME}.svs"
    slide.touch()
    return slide


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        PLAIN.replace("\r\n", "\r").encode(),
        PLAIN.encode() + "# Gewebe: Öse\r\n".encode("cp1252"),
        PLAIN.replace('"', "“").encode("cp1252"),
        PLAIN.replace("accession", "Accession").replace("mpp", '"MPP"').encode(),
        b"\r\n \r\n# words\r\n" + PLAIN.encode(),
    ],
    ids=[
        "plain",
        "mark of UTF-8",
        "UTF-16",
        "UTF-16 big endian",
        "UTF-16 without mark",
        "UTF-16 big endian without mark",
        "lines of old Macs",
        "Windows-1252",
        "curled quotes",
        "capital keys",
        "blank lines and comments",
    ],
)
def test_each_encoding_is_read(tmp_path: Path, data: bytes) -> None:
    slide = written(tmp_path, data)
    assert has_sidecar(slide)
    assert read_sidecar(slide) == Sidecar(mpp=0.25, accession="S26-00031", organ="gastric")


def test_words_of_windows_1252_are_read(tmp_path: Path) -> None:
    slide = written(tmp_path, 'organ = "Drüse"\r\n'.encode("cp1252"))
    assert read_sidecar(slide).organ == "Drüse"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mpp = 0,25", Sidecar(mpp=0.25)),
        ('mpp = "0.25"', Sidecar(mpp=0.25)),
        ('mpp = "0,25"', Sidecar(mpp=0.25)),
        ("mpp = 0.25 # µm", Sidecar(mpp=0.25)),
        ("mpp = 0.25 µm", Sidecar(mpp=0.25)),
        ("mpp = 1", Sidecar(mpp=1.0)),
        ("accession = 26", Sidecar(accession="26")),
        ("accession = 0026", Sidecar(accession="0026")),
        ("accession = 26.10", Sidecar(accession="26.10")),
        ("accession = 26-00031", Sidecar(accession="26-00031")),
        ("block = 1 # the first", Sidecar(block="1")),
        ("accession = 'S26-31'", Sidecar(accession="S26-31")),
        ('accession = " S26-31 " # label', Sidecar(accession="S26-31")),
        ('accession = "S26#31"', Sidecar(accession="S26#31")),
        ('accession = ""', Sidecar()),
        ("", Sidecar()),
    ],
)
def test_what_is_plain_is_read(tmp_path: Path, line: str, found: Sidecar) -> None:
    assert read_sidecar(written(tmp_path, line)) == found


@pytest.mark.parametrize(
    "line",
    [
        "mmp = 0.25",
        "accession = S26-00031",
        'accession = "S26-00031',
        'accession = "A\\nB"',
        'accession = "A\\\\B"',
        "accession = 'A\\B'",
        'accession = "A\tB"',
        'accession = "A\\u200eB"',
        'accession = "S26*"',
        'block = "A\\n1"',
        'accession = """A',
        "accession = ['A']",
        "accession = true",
        "mpp = 0.25.1",
        "mpp = 0,2,5",
        "mpp = nan",
        "mpp = -0.25",
        "mpp = true",
        'mpp = "a quarter"',
        "[slide]",
        "S26-00031",
        'organ = "gastric"',  # a second time
    ],
)
def test_what_is_not_plain_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    slide = written(tmp_path, f'# of the lab\r\norgan = "gastric"\r\n{line}\r\nblock = "A1"\r\n')
    with pytest.raises(SlideError) as caught:
        read_sidecar(slide)
    assert caught.value.reason is QuarantineReason.SIDECAR
    assert f"{NAME}.tandem.toml: line 3: " in caught.value.detail
    assert "can" in str(caught.value) and "scan" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}.tandem.toml.txt",
        f"{NAME}.TANDEM.TOML",
        f"{NAME}.Tandem.toml.TXT",
        f"{NAME.lower()}.tandem.toml",
        f"{NAME}.svs.tandem.toml",
    ],
)
def test_each_spelling_of_its_name_is_found(tmp_path: Path, name: str) -> None:
    slide = written(tmp_path, PLAIN, name)
    assert sidecar_path(slide).name == name
    assert read_sidecar(slide).accession == "S26-00031"


@pytest.mark.parametrize(("slides", "sidecars"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_composed_and_a_decomposed_name_are_one(
    tmp_path: Path, slides: str, sidecars: str
) -> None:
    name = "Müller_S26-00031_A1_HE"
    slide = tmp_path / unicodedata.normalize(slides, f"{name}.svs")
    slide.touch()
    (tmp_path / unicodedata.normalize(sidecars, f"{name}.tandem.toml")).write_text(PLAIN)
    assert read_sidecar(slide).mpp == 0.25


def test_the_sidecar_of_another_slide_is_left_to_it(tmp_path: Path) -> None:
    slide = written(tmp_path, PLAIN, f"{NAME.lower()}.tandem.toml")
    other = tmp_path / f"{NAME.lower()}.svs"
    other.touch()
    (tmp_path / f"{NAME}_2.tandem.toml").write_text(PLAIN)
    assert not has_sidecar(slide)
    assert read_sidecar(slide) == Sidecar()
    assert read_sidecar(other).accession == "S26-00031"


def test_two_sidecars_of_one_slide_are_both_named(tmp_path: Path) -> None:
    written(tmp_path, PLAIN)
    slide = written(tmp_path, 'accession = "S26-00099"', f"{NAME}.tandem.toml.txt")
    with pytest.raises(SlideError) as caught:
        read_sidecar(slide)
    assert caught.value.reason is QuarantineReason.SIDECAR
    assert f"{NAME}.tandem.toml:" in caught.value.detail
    assert f"{NAME}.tandem.toml.txt" in caught.value.detail


def test_a_resolution_beside_two_slides_is_not_taken_against_a_header(tmp_path: Path) -> None:
    slide = write_svs(tmp_path / f"{NAME}.svs")  # its header says 0.25
    sidecar = tmp_path / f"{NAME}.tandem.toml"
    sidecar.write_text("mpp = 0.5")
    assert open_facts(slide).mpp == 0.5
    other = tmp_path / f"{NAME.lower()}.tif"
    with TiffWriter(other) as writer:
        write_level(writer, np.zeros((512, 512, 3), np.uint8), 1, with_resolution=False)
    assert open_facts(slide).mpp == 0.5  # the sidecar of NAME is not that of another name
    other = other.rename(other.with_name(f"{NAME}.tif"))
    with pytest.raises(SlideError) as caught:
        identify_slide(slide, Settings(state_dir=tmp_path / "state"))
    assert caught.value.reason is QuarantineReason.SIDECAR
    assert all(f"{NAME}.{end}" in caught.value.detail for end in ("tif", "svs.tandem.toml"))
    with pytest.raises(SlideError, match=r"0\.25"):
        open_facts(slide)
    assert open_facts(other).mpp == 0.5  # nothing in it says otherwise
    sidecar.write_text("mpp = 0.252")
    assert open_facts(slide).mpp == 0.252
    sidecar.rename(tmp_path / f"{NAME}.svs.tandem.toml").write_text("mpp = 0.5")
    assert open_facts(slide).mpp == 0.5
    assert read_sidecar(other) == Sidecar()


def test_slides_beside_are_files_and_found_with_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = tmp_path / "S26-1.svs"
    names = ["S26-1.svs", "S26-1.ome.tif", "s26-1.ndpi", *(f"S26-1{i}.svs" for i in range(50))]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "S26-1.tif").mkdir()
    (tmp_path / "S26-1.tandem.toml").write_text("mpp = 0.5")
    looks = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looks.append(path) or listdir(path))
    assert slides_beside(slide) == ["S26-1.ome.tif"]
    assert len(looks) <= 5  # not one for each file of the folder


@pytest.mark.parametrize("suffix", [".svs", ".mrxs", ".dcm"])
def test_a_name_that_leaves_no_room_for_a_sidecar_has_none(tmp_path: Path, suffix: str) -> None:
    slide = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    slide.touch()
    assert read_sidecar(slide) == Sidecar()


def test_a_slide_whose_folder_is_gone_has_none(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "gone" / "a.svs") == Sidecar()
    assert sidecar_path(tmp_path / "gone" / "a.svs").name == "a.tandem.toml"


def test_a_name_that_is_no_text_is_said_as_text(tmp_path: Path) -> None:
    slide = tmp_path / "M\udcfcller.svs"
    slide.touch()
    (tmp_path / "M\udcfcller.tandem.toml").write_text("mmp = 1")
    with pytest.raises(SlideError) as caught:
        read_sidecar(slide)
    assert caught.value.detail.encode()


def test_a_huge_sidecar_is_refused_and_not_read(tmp_path: Path) -> None:
    slide = tmp_path / "S26-1_A1_HE.svs"
    with sidecar_path(slide).open("wb") as stream:
        stream.truncate(300 << 20)
    with pytest.raises(SlideError, match="larger than any sidecar"):
        read_sidecar(slide)


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    slide = written(tmp_path_factory.mktemp("any"), data)
    try:
        found = read_sidecar(slide)
    except SlideError as err:
        assert err.reason is QuarantineReason.SIDECAR
    else:
        assert found.accession.isprintable()


@given(
    key=st.sampled_from(["accession", "block", "stain", "organ", "specimen"]),
    value=st.text(max_size=20),
    quote=st.sampled_from(['"', "'", "“", ""]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(deadline=None, max_examples=300)
def test_any_text_arrives_as_written_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str, quote: str, encoding: str
) -> None:
    data = f"{key} = {quote}{value}{quote}\r\n".encode(encoding, "replace")
    slide = written(tmp_path_factory.mktemp("any"), data)
    try:
        found = getattr(read_sidecar(slide), key)
    except SlideError as err:
        assert err.reason is QuarantineReason.SIDECAR
    else:
        assert found == "" or found in value or quote == '"'
        assert found.isprintable() and "\\" not in found
