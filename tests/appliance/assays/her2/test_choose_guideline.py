"""The guideline of a case is chosen by settings and sidecar; a bad sidecar never stops the line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.evidence import ALIGNED, sure

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.guideline import choose_guideline, load_guideline
from appliance.assays.her2.review import review_reasons
from appliance.domain import HER2, Her2Score, Identity, ResultCategory
from appliance.errors import SettingsError
from appliance.findings.findings import IHC_CLASSES, Findings, load_findings
from appliance.findings.label_map import save_labels
from appliance.findings.stored import save_readings, save_unreadable
from appliance.geometry import TileGrid
from appliance.intake.identify import Sidecar, read_sidecar
from appliance.line.analysis import ReadSlide, inspect_slide, open_facts, score_case
from appliance.line.daemon import Daemon
from appliance.operations.doctor import examine
from appliance.readers.cell_tally import CellTally
from appliance.readers.reading import TileReadings
from appliance.settings.intake import Watch
from appliance.settings.scoring import Review, Scoring
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance
from models.synthesis.pyramid import write_pyramid


def chosen(scoring: Scoring, *sidecars: Sidecar) -> tuple[str, list[str]]:
    """Return the name of the guideline and the codes of the reasons for review."""
    found = choose_guideline(scoring, sidecars)
    return found.guideline.name, [reason.code for reason in found.reasons]


def test_the_default_is_a_breast_resection() -> None:
    assert chosen(Scoring()) == ("breast-asco-cap-2018", [])
    assert chosen(Scoring(), Sidecar(), Sidecar(block="A1")) == ("breast-asco-cap-2018", [])


def test_the_sites_default_and_the_sidecar_that_wins() -> None:
    gastric = Scoring(organ="gastric", specimen="biopsy")
    assert chosen(gastric) == ("gastric-biopsy-2014", [])
    assert chosen(gastric, Sidecar(specimen="resection")) == ("gastric-resection-2014", [])
    assert chosen(gastric, Sidecar(organ="colorectal")) == ("colorectal-heracles-2015", [])
    assert chosen(Scoring(), Sidecar(), Sidecar(organ=" Endometrial ")) == ("endometrial-trial", [])
    assert chosen(Scoring(organ="Gastric")) == ("gastric-resection-2014", [])


def test_a_forced_guideline_is_stronger_than_a_sidecar() -> None:
    forced = Scoring(guideline="gastric-resection-2014", organ="endometrial")
    assert chosen(forced, Sidecar(organ="breast")) == ("gastric-resection-2014", [])
    with pytest.raises(SettingsError, match=r"no guideline 'gastric'.*gastric-biopsy-2014"):
        choose_guideline(Scoring(guideline="gastric"))


def test_an_organ_without_guideline_names_it_and_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"'prostate'.*gastric \(biopsy\).*scoring\.guideline"):
        choose_guideline(Scoring(organ="prostate"))
    # A sidecar with a known organ needs no default.
    assert chosen(Scoring(organ="prostate"), Sidecar(organ="breast"))[0] == "breast-asco-cap-2018"


@pytest.mark.parametrize("word", ["liver", 7, ["breast"], "x" * 1000])
def test_an_unknown_organ_becomes_the_default_and_is_reviewed(word: str) -> None:
    found = choose_guideline(Scoring(organ="gastric"), [Sidecar(organ=word)])
    assert found.guideline.name == "gastric-resection-2014"
    (reason,) = found.reasons
    assert reason.code == "organ-unknown"
    assert "scored as gastric" in reason.sentence
    assert len(reason.sentence) < 250


def test_an_unknown_specimen_and_a_contradiction_are_reviewed() -> None:
    found = chosen(Scoring(), Sidecar(organ="gastric", specimen="cytology"))
    assert found == ("gastric-resection-2014", ["specimen-unknown"])
    found = chosen(Scoring(), Sidecar(organ="gastric"), Sidecar(organ="breast"))
    assert found == ("gastric-resection-2014", ["organ-contradicted"])


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("breast-asco-cap-2018", []),
        ("gastric-biopsy-2014", ["clusters-unconfirmed"]),
        ("endometrial-trial", ["guideline-unverified"]),
    ],
)
def test_what_a_guideline_gives_to_review(name: str, codes: list[str]) -> None:
    found = review_reasons(Review(), load_guideline(name), sure())
    assert [reason.code for reason in found] == codes


def test_the_doctor_says_which_guideline_or_that_none_fits(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    texts = []
    for organ in ("endometrial", "prostate"):
        config.write_text(f'state_dir = "{tmp_path}"\n[scoring]\norgan = "{organ}"\n')
        texts += [(f.ok, f.text) for f in examine(config) if f.what == "guideline"]
    (fits, text), (fits_not, trouble) = texts
    assert fits and "unverified" in text and "NCT01367002" in text
    assert not fits_not and "prostate" in trouble


def test_a_daemon_does_not_start_without_a_guideline(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path / "state",
        watch=Watch(folder=tmp_path),
        scoring=Scoring(organ="prostate"),
    )
    with pytest.raises(SettingsError, match="prostate"):
        Daemon(settings).run()
    assert not settings.state_dir.exists()


class ScoredCase:
    """Two painted slides with networks' outputs written by hand: four tiles, half 3+."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(state_dir=folder / "state")
        self.store = ArtifactStore(self.settings.artifacts_dir)
        self.ihc_path = folder / "S26-1_A1_HER2.svs"
        he, ihc = (
            self._painted(folder / "S26-1_A1_HE.svs", (200, 120, 180)),
            self._painted(self.ihc_path, (150, 100, 60)),
        )
        grid = TileGrid.of(*(1024 * he.facts.mpp,) * 2)
        self.align_key = self._artifact("align", {})
        ALIGNED.save(self.store.path(ArtifactKey.parse(self.align_key)))
        tiles = TileReadings(
            places=np.array([(k % 2, k // 2) for k in range(4)], np.int32),
            intensity=np.full(4, 3, np.uint8),
            certainty=np.ones(4, np.float32),
            counts=np.array([[50, 0, 0, 0, 50]] * 2 + [[50, 50, 0, 0, 0]] * 2),
            cells={
                k: CellTally(counted=(0, 0, 0, 60) if k < 2 else (60, 0, 0, 0)) for k in range(4)
            },
        )
        nothing = {"area_mm2": 0.0, "counts": []}
        self.stain_key = self._artifact("stain", {"control.json": nothing, "models.json": []})
        read_key = self._artifact("tumor", {"models.json": []})
        folders = [self.store.path(ArtifactKey.parse(k)) for k in (self.stain_key, read_key)]
        for place in folders:
            Appearance().save(place)
            save_unreadable(place, 0.0)
        save_readings(folders[0], tiles, np.full(grid.shape, 2, np.uint8), 1.1172)
        save_labels(np.ones((256, 256), np.uint8), folders[0] / IHC_CLASSES)
        np.save(folders[1] / "probability.npy", np.ones(grid.shape, np.float32))
        self.he = ReadSlide(facts=he.facts, inspect_key=he.inspect_key, read_key=read_key)
        self.ihc = ihc

    def _painted(self, path: Path, rgb: tuple[int, int, int]) -> ReadSlide:
        pixels = np.full((1024, 1024, 3), 255, dtype=np.uint8)
        pixels[100:900, 100:900] = rgb
        write_pyramid(path, [pixels], width_px=1024, height_px=1024, mpp=0.2793, file_format="svs")
        facts = open_facts(path)
        return ReadSlide(facts=facts, inspect_key=inspect_slide(facts, self.settings).key)

    def _artifact(self, step: str, files: dict[str, object]) -> str:
        key = ArtifactKey.of(step, by="hand")
        with self.store.writing(key) as folder:
            for name, content in files.items():
                (folder / name).write_text(json.dumps(content))
        return str(key)

    def scored(self, sidecar: str) -> Findings:
        self.ihc_path.with_name("S26-1_A1_HER2.tandem.toml").write_text(sidecar)
        identity = Identity(accession="S26-1", block="A1", stain=HER2)
        done = score_case(
            identity, self.he, self.ihc, self.align_key, self.stain_key, self.settings
        )
        return load_findings(self.store.path(ArtifactKey.parse(done.key)))


def test_a_case_is_scored_by_its_sidecars_organ(tmp_path: Path) -> None:
    case = ScoredCase(tmp_path)
    breast = case.scored("mpp = 0.2793\n")
    assert (breast.guideline, breast.organ, breast.category) == (
        "breast-asco-cap-2018",
        "breast",
        None,
    )
    assert breast.rule.startswith("intense, complete")
    assert breast.read_outs is not None and breast.read_outs.three_way == "high"
    # 50 % of the area is 3+, exactly the limit of HERACLES.
    colorectal = case.scored('organ = "colorectal"\n')
    assert (colorectal.guideline, colorectal.score) == (
        "colorectal-heracles-2015",
        Her2Score.THREE,
    )
    assert colorectal.category is ResultCategory.POSITIVE
    assert colorectal.read_outs is not None and colorectal.read_outs.three_way is None
    unknown = case.scored('organ = "liver"\n')
    assert (unknown.guideline, unknown.score) == (breast.guideline, breast.score)
    assert "organ-unknown" in [reason.code for reason in unknown.review]


def test_a_sidecar_holds_organ_and_specimen(tmp_path: Path) -> None:
    (tmp_path / "x.tandem.toml").write_text('organ = "gastric"\nspecimen = "biopsy"\n')
    sidecar = read_sidecar(tmp_path / "x.svs")
    assert (sidecar.organ, sidecar.specimen) == ("gastric", "biopsy")
