"""Studies that the appliance makes: of one installation, and stable there."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.case_objects import BLANK, true_findings
from fixtures.findings import some_findings
from fixtures.pairings import HER2_PAIR
from fixtures.slide_objects import MPP, write_svs
from pydicom import dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.index import read_index
from appliance.delivery.objects import write_objects
from appliance.delivery.orders import order_of
from appliance.delivery.sources import Sources, slide_sources
from appliance.domain import HE, UNIDENTIFIED, Identity
from appliance.findings.codec import save_findings
from appliance.findings.findings import Findings
from appliance.ledger.backups import folder_of
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.line.analyze_slide import open_facts
from appliance.operations.backup import restore_ledger
from appliance.settings.installation import SALT_NAME
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings
from dicom.study import StudyFacts
from dicom.uids import deterministic_uid
from models.synthesis.slides import SyntheticCase


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("pair")
    slides = [write_svs(folder / f"{number}.svs", seed=number) for number in (1, 2)]
    for slide in slides:
        os.utime(slide, (1_770_000_000, 1_770_000_000))
    he, ihc = (replace(open_facts(slide), mpp=MPP) for slide in slides)
    return replace(some_findings(), he=he, ihc=ihc)


def study_of_pair(findings: Findings, state_dir: Path, kept: StudyFacts | None = None) -> str:
    sources: Sources = slide_sources(findings, HER2_ASSAY, Settings(state_dir=state_dir), kept)
    (uid,) = {h.StudyInstanceUID for images in sources.headers.values() for h in images}
    assert sources.study is not None and sources.study.uid == uid
    return str(uid)


@pytest.mark.parametrize("accession", ["S26-31", UNIDENTIFIED])
def test_two_installations_make_two_studies_of_one_accession(
    pair: Findings, tmp_path: Path, accession: str
) -> None:
    findings = replace(pair, accession=accession)
    one = study_of_pair(findings, tmp_path / "one")
    assert study_of_pair(replace(findings, block="B2"), tmp_path / "one") == one
    assert study_of_pair(findings, tmp_path / "two") != one
    assert one != deterministic_uid("study", accession)


def test_a_study_of_an_earlier_edition_goes_on(pair: Findings, tmp_path: Path) -> None:
    """A case that was delivered stays in its study, and so do later blocks of its accession."""
    unsalted = deterministic_uid("study", pair.accession)
    former = StudyFacts.of_json(
        {
            "uid": unsalted,
            "started": "2026-01-01 10:00:00",
            "study_id": "",
            "referring_physician": "",
            "patient_id": "",
            "patient_name": "",
            "patient_birth_date": "",
            "patient_sex": "",
        }
    )
    state = tmp_path / "kept"
    assert study_of_pair(pair, state, former) == unsalted
    state = tmp_path / "upgraded"
    store = ArtifactStore(Settings(state_dir=state).artifacts_dir)
    with store.writing(ArtifactKey.of("study", uid=unsalted)) as folder:
        (folder / "scanned.txt").write_text("2026-01-01T10:00:00+00:00")
    assert study_of_pair(replace(pair, block="B2"), state) == unsalted


@pytest.mark.parametrize("upgraded", [False, True])
def test_a_machine_in_another_zone_converts_no_slide_again(
    upgraded: bool, pair: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    first = []
    try:
        for zone in ("Europe/Berlin", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            first.append(slide_sources(pair, HER2_ASSAY, settings))
            if upgraded and len(first) == 1:  # as an edition left it that kept no zone
                for file in list(settings.artifacts_dir.rglob("zone.txt")):
                    shutil.rmtree(file.parent)
                first.append(slide_sources(pair, HER2_ASSAY, settings))
        other = slide_sources(replace(pair, block="B2"), HER2_ASSAY, settings)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len({each.converted for each in first}) == 1
    headers = [h for each in (*first, other) for images in each.headers.values() for h in images]
    assert {h.TimezoneOffsetFromUTC for h in headers} == {"+0100"}
    assert len({(h.StudyDate, h.StudyTime) for h in headers}) == 1


def test_slides_that_were_converted_before_keep_their_uids() -> None:
    """Facts that an earlier edition did not know count only where they say something."""
    facts = StudyFacts(uid="1.2.3", patient_id="P-1")
    names = ["uid", "started", "study_id", "referring_physician", "patient_id", "patient_name"]
    assert list(facts.stated()) == [*names, "patient_birth_date", "patient_sex"]
    assert "issuer" in replace(facts, issuer="HOSP").stated()


def test_objects_that_replace_others_stay_in_their_study(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    """A case is analyzed again after the salt of the installation was lost."""
    settings = Settings(state_dir=tmp_path / "state")
    findings = true_findings(small_case)

    def studies_of(score: str, previous: str) -> tuple[str, set[str]]:
        key = ArtifactKey.of("findings", score=score)
        with ArtifactStore(settings.artifacts_dir).writing(key) as folder:
            save_findings(
                replace(findings, score=score), folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK
            )
        objects_key = write_objects(str(key), settings, previous)
        paths = [settings.artifacts_dir / item.path for item in read_index(objects_key, settings)]
        headers = [dcmread(path, stop_before_pixels=True) for path in paths]
        return objects_key, {str(header.StudyInstanceUID) for header in headers}

    first, studies = studies_of("2+", "")
    (settings.state_dir / SALT_NAME).unlink()
    assert len(studies) == 1
    assert studies_of("1+", first)[1] == studies
    assert studies_of("3+", "")[1].isdisjoint(studies)


def test_a_restore_with_another_salt_leaves_nothing_that_was_made_with_the_former_one(
    small_case: SyntheticCase, tmp_path: Path
) -> None:
    """A new machine read slides and sent nothing; then the backup of the old one comes."""
    findings = true_findings(small_case)
    table = tmp_path / "orders.csv"
    table.write_text(f"Accession;Patient ID\n{findings.accession};4711\n")

    def machine(name: str) -> Settings:
        made = Settings(state_dir=tmp_path / name, orders=Orders(csv=table))
        ledger = Ledger(made.ledger_url)
        with ledger.transaction() as tx:
            identity = Identity(accession=findings.accession, block=findings.block, stain=HE)
            tx.case_for(identity, 1.0, HER2_PAIR)
        ledger.close()
        return made

    def written(settings: Settings) -> tuple[str, set[str], StudyFacts | None]:
        key = ArtifactKey.of("findings", score="2+")
        if not ArtifactStore(settings.artifacts_dir).has(key):
            with ArtifactStore(settings.artifacts_dir).writing(key) as folder:
                save_findings(findings, folder, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
        objects_key = write_objects(str(key), settings)
        paths = [settings.artifacts_dir / item.path for item in read_index(objects_key, settings)]
        headers = [dcmread(path, stop_before_pixels=True) for path in paths]
        return (
            objects_key,
            {str(header.StudyInstanceUID) for header in headers},
            order_of(findings.accession, settings)[0],
        )

    old = machine("old")
    of_old = written(old)
    backup_ledger(old)
    new = machine("new")
    of_new = written(new)
    assert of_new[0] == of_old[0] and of_new[1].isdisjoint(of_old[1])
    shutil.copytree(folder_of(old.ledger_file), folder_of(new.ledger_file))
    restore_ledger(new)
    assert written(new) == of_old
    # With the results of the old machine beside it, which stay.
    shutil.rmtree(new.artifacts_dir)
    shutil.copytree(old.artifacts_dir, new.artifacts_dir)
    (new.state_dir / SALT_NAME).write_text("b" * 64)
    restore_ledger(new)
    assert (new.artifacts_dir / of_old[0]).is_dir() and written(new) == of_old
