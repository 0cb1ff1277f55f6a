"""Settings that cannot work are refused before the start, with one line each."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from fixtures.damage import flip
from fixtures.small_disk import small_disk
from fixtures.weights import tiny_weights

from appliance.errors import SettingsError
from appliance.intake.identity.identify import NO_EVIDENCE, Evidence, Identifier
from appliance.operations.doctor import examine
from appliance.operations.start_checks import check_start, folder_problems
from appliance.settings.destinations import FolderDestination
from appliance.settings.intake import Watch
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings
from models.spec import WEIGHTS_NAME


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("scans", "archive", "SCANS-2"):
        (tmp_path / name).mkdir()
    (tmp_path / "scans" / "below").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    (tmp_path / "file").touch()
    return tmp_path


def settings_of(site: Path, *, state: str = "state", archive: str = "archive") -> Settings:
    return Settings(
        state_dir=site / state,
        watch=Watch(folder=site / "scans"),
        destinations=(FolderDestination(folder=site / archive),),
    )


def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as told:
        check_start(settings)
    return str(told.value)


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_what_can_work_is_accepted_and_nothing_is_left(site: Path) -> None:
    before = everything(site)
    check_start(settings_of(site))
    check_start(settings_of(site, state="scans-2"))  # beside, not inside
    check_start(settings_of(site, archive="away"))  # a mount point that is not there yet
    assert everything(site) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"archive": "scans"}, "destination 'archive'"),
        ({"archive": "scans/below"}, "destination 'archive'"),
        ({"archive": "scans/new/archive"}, "destination 'archive'"),
        ({"archive": "link/below"}, "destination 'archive'"),
        ({"archive": "archive/../scans/x"}, "destination 'archive'"),
        ({"archive": "Scans/x"}, "destination 'archive'"),
        ({"state": "scans/state"}, "state_dir"),
        ({"state": "link"}, "state_dir"),
        ({"state": "."}, "watch.folder"),
        ({"archive": "."}, "watch.folder"),
    ],
)
def test_folders_inside_each_other(site: Path, changed: dict[str, str], named: str) -> None:
    before = everything(site)
    told = refusal(settings_of(site, **changed))
    assert told.startswith(named) or f"of the {named} = " in told
    assert "lies inside" in told and "\n" not in told
    assert everything(site) == before


def test_a_pair_that_is_processed_by_hand_writes_nothing_there(site: Path) -> None:
    config = site / "tandem.toml"
    config.write_text(f"state_dir = '{site}/state'\n[watch]\nfolder = '{site}/scans'\n")
    before, out = everything(site), site / "link" / "out"
    done = tandem(
        "process", site / "file", site / "file", "--out", out, "--config", config, check=False
    )
    assert done.returncode == 1 and "to which nothing is written" in done.stderr
    assert everything(site) == before


def test_two_folders_whose_names_differ_by_case_are_two(site: Path) -> None:
    (site / "SCANS").mkdir()
    if len({path.stat().st_ino for path in (site / "SCANS", site / "scans")}) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    check_start(settings_of(site, archive="SCANS"))


@pytest.mark.parametrize("folder", ["file", "file/below", "/sys/kernel"])
def test_a_folder_that_cannot_be_written(site: Path, folder: str) -> None:
    for told in (
        refusal(settings_of(site, state=folder)),
        refusal(settings_of(site, archive=folder)),
    ):
        assert "cannot be written (" in told or "is there. Create it" in told
        assert "\n" not in told


def test_an_archive_whose_parent_is_missing(site: Path) -> None:
    told = refusal(settings_of(site, archive="no/where"))
    assert "neither this folder nor the one that it lies in is there" in told


def test_weights_that_are_missing_or_changed(site: Path) -> None:
    tiny_weights(site / "weights")
    given = settings_of(site)
    given = given.model_copy(update={"models": ModelSettings(tumor=site / "weights")})
    check_start(given)
    flip(site / "weights" / WEIGHTS_NAME)
    assert refusal(given).startswith("weights for tumor: ")
    nope = given.model_copy(update={"models": ModelSettings(tumor=Path("/opt/nope"))})
    assert "/opt/nope" in refusal(nope)


def test_config_check_tells_of_identifiers_that_another_installation_may_have(site: Path) -> None:
    config = site / "tandem.toml"
    fhir = (
        f"state_dir = '{site / 'state'}'\n[watch]\nfolder = '{site / 'scans'}'\n"
        "[[destinations]]\nkind = 'fhir'\nname = 'ehr'\nurl = 'https://fhir.example/r4'\n"
    )
    for own, told in (("", True), ("identifier_system = 'urn:clinic:tandem'\n", False)):
        config.write_text(fhir + own)
        done = tandem("config", "check", "--config", config)
        assert json.loads(done.stdout)["destinations"][0]["name"] == "ehr"
        assert ("destination 'ehr': identifier_system is the default." in done.stderr) == told


def test_case_makes_no_two_numbers_whatever_a_former_settings_file_says(site: Path) -> None:
    config = site / "tandem.toml"
    plain = f"state_dir = '{site / 'state'}'\n[watch]\nfolder = '{site / 'scans'}'\n"
    for own, told in (("", False), ("[identify.writing]\nfold_case = false\n", True)):
        config.write_text(plain + own)
        done = tandem("config", "check", "--config", config)
        assert ("identify.writing.fold_case = false: has no effect" in done.stderr) == told
        header = Evidence(properties={"dicom.AccessionNumber": "s26-00031"})
        for known in (header, NO_EVIDENCE):
            identifier = Identifier({"HE": ("HE",)}, load_settings(config).identify)
            found = identifier.verdict(Path("s26-00031_a1_HE.svs"), known)
            assert (found.accession, found.block) == ("S26-00031", "A1")


@pytest.mark.parametrize("state", ["scans/state", "state"])
def test_config_check_and_doctor_say_the_same(site: Path, state: str) -> None:
    config = site / "tandem.toml"
    config.write_text(
        f"state_dir = '{site / state}'\nmodels.tumor = '/opt/nope'\n"
        f"[watch]\nfolder = '{site / 'scans'}'\n"
    )
    done = tandem("config", "check", "--config", config, check=False)
    (line,) = done.stderr.removeprefix("error: ").splitlines()
    assert done.returncode == 1
    found = [found for found in examine(config) if not found.ok]
    assert line in [text for each in found for text in (each.text, f"{each.what}: {each.text}")]
    assert not (site / "scans" / "state").exists()


@pytest.mark.parametrize(
    ("stains", "word"),
    [
        ("HER2 = ['HER2', 'H-E']", "H-E"),  # HE keeps the assay's words
        ("HER2 = ['CB11']\nHE = ['cb 11']", "CB11"),
        ("HER2 = ['CB11', 'he']\nHE = ['H&E']", "he"),  # the code is a word, too
    ],
)
def test_a_word_of_two_stains_is_refused(site: Path, stains: str, word: str) -> None:
    config = site / "tandem.toml"
    text = f"state_dir = '{site}/state'\n[watch]\nfolder = '{site}/scans'\n[identify.stains]\n"
    config.write_text(text + stains + "\n")
    says = f"identify.stains: the word '{word}' is one of HE and of HER2."
    refused = tandem("config", "check", "--config", config, check=False)
    assert refused.returncode == 1 and says in refused.stderr
    (line,) = [line for line in examine(config) if line.what == "assays"]
    assert not line.ok and says in line.text
    config.write_text(text + "HER2 = ['CB11', 'cb-11']\nHE = ['H&E', 'HES']\n")
    tandem("config", "check", "--config", config)


def test_a_folder_that_is_read_only_under_systemd_names_the_units(tmp_path: Path) -> None:
    with small_disk(tmp_path / "archive", 64) as archive:
        subprocess.run(["mount", "-o", "remount,ro", archive], check=True)
        destination = FolderDestination(folder=archive)
        settings = Settings(state_dir=tmp_path / "state", destinations=(destination,))
        (problem,) = folder_problems(settings)
    assert "Read-only file system" in problem and "tandem init --out FOLDER" in problem
