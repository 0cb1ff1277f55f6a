"""The guideline of a case is chosen by settings and sidecar; a bad sidecar never stops the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.evidence import ALIGNED, sure
from fixtures.readings import answer_by_hand
from numpy.typing import NDArray

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.assay import Declared
from appliance.assays.her2.choice import choose_guideline
from appliance.assays.her2.guideline import load_guideline
from appliance.assays.her2.review import review_reasons
from appliance.errors import SettingsError
from appliance.findings.codec import load_findings
from appliance.findings.findings import Findings
from appliance.intake.identity.identify import require_identity
from appliance.intake.identity.sidecar import Sidecar, read_sidecar
from appliance.line import analyze_case
from appliance.line.analyze_slide import identify_slide, inspect_slide
from appliance.line.daemon import Daemon
from appliance.line.outcomes import Outcome, ReadSlide
from appliance.operations.doctor import examine
from appliance.settings.intake import Watch
from appliance.settings.scoring import Review, Scoring
from appliance.settings.settings import Settings
from models.spec import Task
from models.synthesis.pyramid import write_pyramid


def declared(*sidecars: Sidecar) -> Declared:
    """Words of the sidecars as *identify* keeps them: text, whatever a person wrote."""
    return Declared(
        organ=tuple(str(sidecar.organ) for sidecar in sidecars),
        specimen=tuple(str(sidecar.specimen) for sidecar in sidecars),
    )


def chosen(scoring: Scoring, *sidecars: Sidecar) -> tuple[str, list[str]]:
    """Name of the guideline, codes of the reasons for review."""
    found = choose_guideline(scoring, declared(*sidecars))
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
    found = choose_guideline(Scoring(organ="gastric"), declared(Sidecar(organ=word)))
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

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        enough = Review(min_tumor_area_mm2=0.01)
        self.settings = Settings(state_dir=folder / "state", review=enough)
        self.he_path = self._painted(folder / "S26-1_A1_HE.svs", (200, 120, 180), (200, 120, 180))
        self.ihc_path = self._painted(folder / "S26-1_A1_HER2.svs", (150, 100, 60), (170, 130, 100))
        answer_by_hand(
            monkeypatch,
            {
                Task.TUMOR: lambda pixels: np.tile(np.float32([0, 1]), (len(pixels), 1)),
                Task.INTENSITY: lambda pixels: np.tile(np.float32([0, 0, 0, 1]), (len(pixels), 1)),
                Task.SEGMENTATION: self._labels,
            },
            self.settings,
        )
        monkeypatch.setattr(analyze_case, "align", lambda *_: ALIGNED)

    def _painted(self, path: Path, *rows: tuple[int, int, int]) -> Path:
        pixels = np.full((1024, 1024, 3), 255, dtype=np.uint8)
        pixels[100:512, 100:900], pixels[512:900, 100:900] = rows
        write_pyramid(path, [pixels], width_px=1024, height_px=1024, mpp=0.2793, file_format="svs")
        return path

    @staticmethod
    def _labels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Left half of every tile: 3+ on the dark tiles of the upper row, else 0."""
        labels = np.zeros((len(pixels), 128, 128), np.uint8)
        for number, tile in enumerate(pixels):
            labels[number, :, :64] = 4 if tile[256, 256, 2] < 80 else 1
        return labels

    def _read(self, path: Path) -> ReadSlide:
        found = identify_slide(path, self.settings)
        return ReadSlide(
            facts=found.facts,
            inspect_key=inspect_slide(found.facts, self.settings).key,
            organ=found.organ,
            specimen=found.specimen,
        )

    def scored(self, sidecar: str) -> tuple[Findings, Outcome]:
        """Findings with this sidecar beside the HER2 slide."""
        self.ihc_path.with_name("S26-1_A1_HER2.tandem.toml").write_text(sidecar)
        he, ihc = self._read(self.he_path), self._read(self.ihc_path)
        identity = require_identity(identify_slide(self.ihc_path, self.settings).verdict)
        done = analyze_case.analyze_case("her2", identity, he, ihc, self.settings)
        store = ArtifactStore(self.settings.artifacts_dir)
        return load_findings(store.path(ArtifactKey.parse(done.key))), done


def test_a_case_is_scored_by_its_sidecars_organ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ScoredCase(tmp_path, monkeypatch)
    breast, _ = case.scored("mpp = 0.2793\n")
    assert len(breast.tiles) == 4
    assert breast.percent == {"0": 50.0, "1+": 0.0, "2+": 0.0, "3+": 50.0}
    assert (breast.guideline, breast.organ, breast.category) == (
        "breast-asco-cap-2018",
        "breast",
        None,
    )
    assert breast.rule.startswith("intense, complete")
    assert breast.read_outs is not None and breast.read_outs.three_way == "high"
    # 50 % of the area is 3+: the limit of HERACLES itself.
    colorectal, done = case.scored('organ = "colorectal"\n')
    assert (colorectal.guideline, colorectal.score) == ("colorectal-heracles-2015", "3+")
    assert colorectal.category == "positive"
    assert colorectal.read_outs is not None and colorectal.read_outs.three_way is None
    # Other words of a sidecar are decided anew, and nothing is read anew for them.
    assert {time.step for time in done.times if not time.reused} == {"score"}
    unknown, _ = case.scored('organ = "liver"\n')
    assert (unknown.guideline, unknown.score) == (breast.guideline, breast.score)
    assert "organ-unknown" in [reason.code for reason in unknown.review]


def test_a_sidecar_holds_organ_and_specimen(tmp_path: Path) -> None:
    (tmp_path / "x.tandem.toml").write_text('organ = "gastric"\nspecimen = "biopsy"\n')
    sidecar = read_sidecar(tmp_path / "x.svs")
    assert (sidecar.organ, sidecar.specimen) == ("gastric", "biopsy")


def test_hardly_any_tumor_is_scored_but_not_interpreted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ScoredCase(tmp_path, monkeypatch)
    case.settings = case.settings.model_copy(update={"review": Review()})
    found, _ = case.scored("mpp = 0.2793\n")
    assert found.tumor_area_mm2 < Review().min_tumor_area_mm2
    assert (found.score, found.comment, found.read_outs) == ("3+", "", None)
    assert "little-tumor" in [reason.code for reason in found.review]
