"""The simulated scanner: real slides, equal bytes for equal seeds, and faults that are faults."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fixtures.daemon import tandem

from appliance.errors import SlideError
from appliance.intake.completeness import is_whole
from appliance.intake.identity.identify import require_identity
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings
from appliance.slides.files import slide_files
from benchmarks.scanner import play
from benchmarks.scanner.arrival import Disk, arrive
from benchmarks.scanner.command import FAULT_NAMES, NAMING_NAMES, PROFILE_NAMES
from benchmarks.scanner.plan import FAULTS, NAMES, NAMINGS, Scan, plan_scans
from benchmarks.scanner.play import Simulation, simulate
from benchmarks.scanner.profiles import PROFILES
from benchmarks.scanner.tissue import Sections

SLOW = ("stalls", "truncated", "series")


def dice() -> random.Random:
    return random.Random(1)  # noqa: S311


def of_all(**changes: Any) -> Simulation:
    return Simulation(**({"profiles": tuple(PROFILES), "scores": ("3+",)} | changes))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_command_names_all_profiles_and_faults() -> None:
    assert tuple(PROFILES) == PROFILE_NAMES
    assert tuple(FAULTS) == FAULT_NAMES
    assert tuple(NAMINGS) == NAMING_NAMES


def test_each_end_of_the_truth_is_what_identify_says(tmp_path: Path, sections: Sections) -> None:
    truth = simulate(
        of_all(slides=160, fault_share=0.5, seed=3), tmp_path / "scans", sections=sections
    )
    settings = Settings(state_dir=tmp_path / "state")
    seen = set()
    for entry in truth["slides"]:
        seen.add((entry["profile"], entry["fault"]))
        path = tmp_path / "scans" / entry["files"][0]
        try:
            found = require_identity(identify_slide(path, settings).verdict)
        except (SlideError, OSError) as err:
            assert entry["expected"] in ("set-aside", "gone"), entry
            if entry["reasons"]:
                assert isinstance(err, SlideError)
                assert err.reason in entry["reasons"], entry
            continue
        assert entry["expected"] in ("read", "one-of"), entry
        assert found.accession == entry["accession"]
        assert (found.block, found.stain) == (entry["block"], entry["stain"])
        assert entry["whole_at"], entry
    assert {profile for profile, _ in seen} == set(PROFILES)
    assert {fault for _, fault in seen} >= set(FAULTS)


def test_equal_seeds_write_equal_bytes(tmp_path: Path, sections: Sections) -> None:
    wanted = of_all(slides=26, fault_share=1.0)
    simulate(wanted, tmp_path / "a", sections=sections)
    simulate(wanted, tmp_path / "b", sections=sections)
    simulate(of_all(slides=26, fault_share=1.0, seed=2), tmp_path / "c", sections=sections)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("fault", ["", *SLOW])
def test_a_slide_is_not_whole_before_its_last_piece(
    profile: str, fault: str, tmp_path: Path, sections: Sections
) -> None:
    (scan,) = plan_scans([profile], 1, [fault] if fault else [], 1.0, ["3+"], dice())
    disk = Disk(root=tmp_path, slide_s=PROFILES[profile].slide_s, dice=dice())
    slide = arriving(scan, sections)
    path, waits = tmp_path / next(iter(slide.files)), 0
    for _ in arrive(slide, disk):
        files = [tmp_path / name for name in slide.files]
        there = contents(tmp_path)
        if path.exists() and not all(there.get(n) == data for n, data in slide.files.items()):
            whole = is_whole(path, [file for file in files if file.exists()])
            assert whole == (profile == "dicom" and level_0_is_there(slide.files, there))
            waits += 1
    assert waits > 0
    assert is_whole(path, slide_files(path))
    assert len(disk.whole_at[slide.key]) == 1


def level_0_is_there(wanted: dict[str, bytes], there: dict[str, bytes]) -> bool:
    """Return whether no file of a series is cut, and level 0 is there: that alone can be read.

    Coarser levels that come later take the slide back.
    """
    return list(wanted)[-1] in there and all(wanted[name] == data for name, data in there.items())


def arriving(scan: Scan, sections: Sections) -> Any:
    makers = {
        (scan.profile, stain, score): PROFILES[scan.profile].prepare(section)
        for (stain, score), section in sections.items()
    }
    return play._arriving(scan, makers)


def test_dicom_writes_the_coarsest_level_first(tmp_path: Path, sections: Sections) -> None:
    (scan,) = plan_scans(["dicom"], 1, [], 0.0, ["3+"], dice())
    sizes = [len(data) for data in arriving(scan, sections).files.values()]
    assert sizes == sorted(sizes)


def test_odd_names_differ_and_fit_a_file_system(tmp_path: Path, sections: Sections) -> None:
    wanted = of_all(slides=400, faults=("names",), fault_share=1.0)
    truth = simulate(wanted, tmp_path, sections=sections)
    assert {entry["variant"] for entry in truth["slides"]} == set(NAMES)
    assert not any(entry["refused"] for entry in truth["slides"])


@pytest.mark.slow
def test_the_command_writes_folder_and_truth(tmp_path: Path) -> None:
    folder, truth = tmp_path / "scans", tmp_path / "truth.json"
    arguments = ("simulate", "scanner", "--slides", 4, "--faults", "none", "--json")
    said = json.loads(tandem(*arguments, "--out", folder, "--truth", truth).stdout)
    assert said == {"slides": 4, "pairs": 2, "expected": {"read": 4}}
    entries = json.loads(truth.read_text())["slides"]
    assert set(contents(folder)) == {name for entry in entries for name in entry["files"]}
    again = tandem(*arguments, "--out", folder, check=False)
    assert again.returncode != 0
    assert "not empty" in again.stderr
    inside = tandem(*arguments, "--out", tmp_path / "b", "--truth", tmp_path / "b/t", check=False)
    assert inside.returncode != 0
    assert not (tmp_path / "b").exists()
