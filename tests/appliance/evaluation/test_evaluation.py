"""``tandem evaluate``: the real command on class folders, generated tiles and pairs of slides."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.daemon import tandem, tandem_here
from fixtures.weights import tiny_weights

from appliance.cli.evaluate_result import show
from appliance.evaluation.case import judge_case
from appliance.evaluation.case_files import CaseFiles
from appliance.evaluation.kept_results import RESULT_NAME
from appliance.settings.settings import Settings
from models.synthesis.slides import SyntheticCase, synthesize_case
from models.synthesis.tile_pairs import synthesize_tile_pair

FIRST_SEED = 907_000_000
NAMES = ("none", "faint", "weak", "strong")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few generated tiles, as class folders and as images with masks."""
    root = tmp_path_factory.mktemp("tiles")
    for seed in range(FIRST_SEED, FIRST_SEED + 10):
        pair = synthesize_tile_pair(seed)
        files = {
            f"tumor/{'tumor' if pair.tumor else 'other'}/{seed}.png": pair.he[..., ::-1],
            f"masks/{seed}.png": pair.ihc[..., ::-1],
            f"masks/{seed}_mask.png": pair.class_map,
        }
        if pair.tumor:
            files[f"intensity/{NAMES[pair.intensity]}/{seed}.png"] = pair.ihc[..., ::-1]
        for name, pixels in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / name), pixels)
    return root


class Links(HTMLParser):
    """Collector of the resources that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {k}" for k, _ in attrs if k in ("src", "href", "srcset", "xlink:href")
        ]


def assert_self_contained(page: Path) -> None:
    text = page.read_text()
    links = Links()
    links.feed(text)
    assert links.found == []
    for word in ("http:", "https:", "url(", "@import", "<script"):
        assert word not in text
    assert "research use only" in text


@pytest.mark.parametrize(
    ("task", "folder", "key"),
    [
        ("tumor", "tumor", "tumor.auc"),
        ("intensity", "intensity", "intensity.accuracy"),
        ("intensity", "masks", "intensity.accuracy"),
        ("segmentation", "masks", "segmentation.mean_iou"),
    ],
)
def test_tiles_of_a_folder(
    task: str, folder: str, key: str, generated: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    done = tandem_here(
        "evaluate", "tiles", "--task", task, generated / folder, "--json", "--html", page
    )
    result = json.loads(done.stdout)
    assert 0 <= result[key] <= 1
    assert 0 <= result[f"baseline.{key}"] <= 1
    assert "research use only" in result["notice"]
    assert result["data"] == "images"
    assert len(result["predictions"]) == result["images"] == result["mpp_assumed"]
    first = result["predictions"][0]
    assert {"image", "tiles", "predicted", "baseline"} <= set(first)
    assert_self_contained(page)
    assert "<svg" in page.read_text()


def test_several_weights_stand_side_by_side(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, base = tmp_path / "small", tmp_path / "base"
    first, second = (tiny_weights(folder, seed=k) for k, folder in enumerate((small, base), 1))
    (base / "training.csv").write_text("epoch,loss,validation_accuracy\n0,1,0.5\n1,1,0.75\n")
    page = tmp_path / "report.html"
    command = ("evaluate", "tiles", "--task", "tumor", generated / "tumor", "--weights", small)
    alone = json.loads(tandem_here(*command, "--json").stdout)
    told = (*command, "--weights", base, "--html", page)
    result = json.loads(tandem_here(*told, "--json").stdout)
    assert result["sides"] == {
        "model": "tiny 1.1", "model-2": "tiny 1.2", "baseline": "baseline",
    }  # fmt: skip
    assert [w["sha256"] for w in result["weights"].values()] == [first.sha256, second.sha256]
    assert list(result["details"]) == list(result["sides"])
    # Each has the figures that it has alone.
    assert result["details"]["model"] == alone["details"]["model"]
    assert result["details"]["baseline"] == alone["details"]["baseline"]
    for name in ("accuracy", "precision", "recall", "f1", "auc"):
        assert result[f"tumor.{name}"] == alone[f"tumor.{name}"]
        assert f"model-2.tumor.{name}" in result and f"baseline.tumor.{name}" in result
    (one,) = {len(record["model-2"]["probability"]) for record in result["predictions"]}
    assert one == 2
    assert result["epochs"] == {"model-2": {"figure": "accuracy", "points": [[1, 0.5], [2, 0.75]]}}
    assert_self_contained(page)
    text = page.read_text()
    assert "Accuracy per epoch" in text and "published: arXiv 2512.22335, Table 2" in text
    show(result, as_json=False, html=None)
    words = " ".join(capsys.readouterr().out.split())
    for said in ("tumor.precision", "tumor.recall", "tumor.f1", "tiny 1.2", "confusion: tiny 1.1",
                 "published, on other tissue", "vit-base-patch16-224"):  # fmt: skip
        assert said in words
    twice = tandem_here(*command, "--weights", small, check=False)
    assert twice.returncode == 2 and "each folder once" in twice.stderr


def test_a_split_of_a_data_set(generated: Path, tmp_path: Path) -> None:
    data_set = tmp_path / "set"
    done = tandem_here("dataset", "folders", generated / "tumor", "--task", "tumor",
                  "--mpp", 0.2793,
                  "--white", "255,255,255", "--patient-pattern", r"([0-9]+)\.png",
                  "--splits", "0.5,0.1,0.4", "--out", data_set)  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = json.loads((data_set / "manifest.json").read_text())["counts"]
    done = tandem_here("evaluate", "tiles", "--task", "tumor", data_set, "--json")
    result = json.loads(done.stdout)
    assert result["split"] == "test"
    assert result["details"]["model"]["n"] == counts["test"]["tiles"] > 0
    wrong = tandem_here("evaluate", "tiles", "--task", "intensity", data_set, check=False)
    assert wrong.returncode == 1
    assert "a data set for tumor" in wrong.stderr


def test_generated_tiles_for_people(tmp_path: Path) -> None:
    done = tandem("evaluate", "tiles", "--task", "tumor", "--generated", 6, "--seed", 3)
    assert "synthetic" in done.stdout
    assert "tumor.auc" in done.stdout
    assert "research use only" in done.stdout


def test_images_are_brought_to_the_networks_resolution(generated: Path, tmp_path: Path) -> None:
    """Four tiles in one field at twice the resolution are cut into the same four tiles."""
    paths = sorted((generated / "tumor" / "tumor").glob("*.png"))[:4]
    tiles = [cv2.imread(str(path)) for path in paths]
    field = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    (tmp_path / "tumor").mkdir()
    fine = cv2.resize(field, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "tumor" / "field.png"), fine)
    (tmp_path / "mpp").write_text("0.13965")
    done = tandem_here("evaluate", "tiles", "--task", "tumor", tmp_path, "--json")
    result = json.loads(done.stdout)
    assert result["predictions"][0]["tiles"] == 4
    assert result["mpp_assumed"] == 0


def test_what_cannot_be_judged_is_one_clear_line(generated: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("tiles", "--task", "segmentation", generated / "tumor"), "images with masks"),
        (("tiles", "--task", "taste", generated), "use tumor, intensity, segmentation"),
        (("tiles", "--task", "tumor"), "--generated"),
        (("--seed", "3"), "--synthetic"),
        ((tmp_path,), "no pairs with truth"),
        (
            ("tiles", "--task", "tumor", generated / "tumor", "--weights", tmp_path),
            "not a usable manifest",
        ),
    ):
        done = tandem_here("evaluate", *arguments, check=False)
        assert done.returncode != 0
        assert said in " ".join(done.stderr.replace("│", " ").split()), done.stderr
        assert "Traceback" not in done.stderr


def test_help_teaches_both_forms() -> None:
    text = " ".join(tandem_here("evaluate", "--help").stdout.split())
    assert "tandem evaluate --synthetic --seed 1 --pairs 40" in text
    assert "tandem evaluate tiles --task tumor DIR" in text
    assert "labels.csv" in tandem_here("evaluate", "tiles", "--help").stdout


QUOTED = (
    "tumor.accuracy",
    "tumor.auc",
    "intensity.accuracy",
    "intensity.specificity",
    "segmentation.mean_iou",
    "slide.n",
    "slide.exact",
    "slide.within_one",
    "calibration.ece",
)


def test_a_synthetic_pair_goes_all_the_way(tmp_path: Path) -> None:
    page, kept = tmp_path / "report.html", tmp_path / "kept"
    size = ("--width", 2048, "--height", 1792)
    done = tandem(
        "evaluate", "--synthetic", "--seed", 7, "--pairs", 1, *size,
        "--json", "--html", page, "--out", kept,
    )  # fmt: skip
    result = json.loads(done.stdout)
    for key in QUOTED:
        assert key in result
        assert f"baseline.{key}" in result
    assert result["data"] == "synthetic"
    assert result["slide.n"] == result["baseline.slide.n"] == 1
    assert result["slide.exact"] <= result["slide.within_one"] <= 1
    (case,) = result["cases"]
    assert case["truth"] in ("0", "1+", "2+", "3+")
    assert (kept / "case-001" / "results" / "findings.json").is_file()
    assert_self_contained(page)
    assert "Synthetic figures" in page.read_text()
    # What was kept is a folder of pairs with truth.
    again = json.loads(tandem_here("evaluate", kept, "--json").stdout)
    assert {k: again[k] for k in QUOTED} == {k: result[k] for k in QUOTED}


def checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


SMALLEST = ("--width", 2048, "--height", 1536)
KILLED = """
import os, signal
from appliance.cli.job_progress import JobProgress
from appliance.cli.main import main
JobProgress.ended = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""
"""`tandem`, killed as soon as its first pair has ended: nobody has to look at the right moment."""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    command = (
        "evaluate", "--synthetic", "--seed", 11, "--pairs", 2, *SMALLEST,
        "--workers", 1, "--out", kept, "--json",
    )  # fmt: skip
    first, second = (kept / f"case-00{k}" / RESULT_NAME for k in (1, 2))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout == b""
    assert first.is_file() and not second.exists()
    was = first.read_bytes()

    # A result of other weights is in the place of the second pair's.
    document = json.loads(was) | {"key": "of other weights"}
    document["sha256"] = checksum({k: v for k, v in document.items() if k != "sha256"})
    second.parent.mkdir(parents=True, exist_ok=True)
    second.write_text(json.dumps(document))
    resumed = tandem_here(*command)
    said = resumed.stderr.splitlines()
    assert said[:2] == [
        "results of another configuration, to be run again: 1",
        "2 pairs: 1 done already, 1 to run",
    ]
    assert said[2].startswith("pair 2 of 2: ")
    assert first.read_bytes() == was
    again = tandem_here(*command)
    assert again.stderr.splitlines()[0] == "2 pairs: 2 done already, 0 to run"
    assert again.stdout == resumed.stdout and json.loads(again.stdout)["pairs"] == 2


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_slides_of_other_resolutions_have_their_truth_in_place(mpp: float, tmp_path: Path) -> None:
    case = synthesize_case(
        tmp_path, seed=5, score="3+", width_px=3072, height_px=2304, mpp=mpp, control="none"
    )
    files = CaseFiles(he=case.he_path, ihc=case.ihc_path, truth=case.truth_path)
    judged = judge_case(files, tmp_path / "results", Settings())
    assert judged.facts["mpp"] == mpp
    truth = json.loads(case.truth_path.read_text())
    assert truth["mpp"] == mpp
    # Tiles have the same px of truth as the label map has.
    matrices = judged.matrices["model"]
    assert (matrices.sum(axis=2) == judged.ihc_counts).all()
    shares = 100 * judged.ihc_counts[:, 1:].sum(axis=0) / judged.ihc_counts[:, 1:].sum()
    np.testing.assert_allclose(shares, list(truth["percent"].values()), atol=8)
    # A truth that was shifted or scaled would agree less with M.
    total = matrices.sum(axis=0)
    tumor = np.array([[total[:1, :1].sum(), total[:1, 1:].sum()],
                      [total[1:, :1].sum(), total[1:, 1:].sum()]])  # fmt: skip
    assert np.trace(tumor) / tumor.sum() > 0.9


def test_only_made_slides_have_a_choice_of_resolution(tmp_path: Path) -> None:
    for arguments, said in (
        ((tmp_path, "--mpp", 0.5), "--synthetic"),
        ((tmp_path, "--rough"), "--synthetic"),
        (("--synthetic", "--pairs", 1, "--mpp", 0.1), "equal to 0.25"),
    ):
        done = tandem_here("evaluate", *arguments, check=False)
        assert done.returncode != 0
        assert said in " ".join(done.stderr.replace("│", " ").split()), done.stderr


def test_truth_is_where_the_tiles_are(small_case: SyntheticCase, tmp_path: Path) -> None:
    """The counts behind the figures are those of the generator's rasters."""
    files = CaseFiles(he=small_case.he_path, ihc=small_case.ihc_path, truth=small_case.truth_path)
    case = judge_case(files, tmp_path, Settings())
    facts = json.loads(small_case.truth_path.read_text())
    assert ("0", "1+", "2+", "3+")[case.score] == small_case.score
    # Most true tumor lies on the scored tiles, and its mix is that of the slide.
    tumor = case.ihc_counts[:, 1:].sum(axis=0)
    assert tumor.sum() * facts["classes_mpp"] ** 2 / 1e6 > 0.6 * facts["tumor_area_mm2"]
    shares = 100 * tumor / tumor.sum()
    np.testing.assert_allclose(shares, list(facts["percent"].values()), atol=8)
    # Both sides are held against the same truth.
    for side in ("model", "baseline"):
        assert (case.matrices[side].sum(axis=2) == case.ihc_counts).all()
    assert ((case.he_share >= 0) & (case.he_share <= 1)).all()
    # C's answers follow the tumor at the same place: a shifted raster would show here.
    clear = (case.he_share > 0.5) | (case.he_share < 0.05)
    said = case.he_said["model"][clear, 1] > 0.5
    assert (said == (case.he_share[clear] > 0.5)).mean() > 0.6


def test_whole_sections_are_aligned_and_a_mix_up_is_caught() -> None:
    result = json.loads(
        tandem_here("evaluate", "--mapping", "--seed", 5, "--pairs", 2, "--json").stdout
    )
    assert result["data"] == "synthetic" and len(result["pairs_found"]) == 2
    assert result["alignment.tre_um_median"] <= 20
    assert result["alignment.unflagged_failures"] == 0
    assert result["mismatch.recall"] == 1 and result["mismatch.false_alarm_rate"] == 0
    assert result["control.leaked"] == 0
    assert result["control.n"] == sum(pair["control"] for pair in result["pairs_found"])


@pytest.mark.timeout(7200)  # slides of this size take minutes, many on a busy machine
def test_nobody_falls_into_a_trap() -> None:
    size = ("--width", 6144, "--height", 3072)  # smaller slides have too small control tissue
    done = tandem_here("evaluate", "--traps", "--seed", 5, "--pairs", 1, *size, "--json")
    result = json.loads(done.stdout)
    assert [case["trap"] for case in result["cases"]] == [
        "control",
        "failed-control",
        "heterogeneity",
    ]
    assert result["control.scored_zero"] == result["control.n"] == 1
    assert result["control.false_alarms"] == 0
    assert result["failed_control.reviewed"] == 1
    assert result["control.found"] == 1
    assert result["heterogeneity.confidently_wrong"] == 0
    assert result["heterogeneity.error_points_most"] < 10
    share = result["cases"][2]["percent"]["truth"]["3+"]
    assert 3 < share < 20


def test_a_command_asks_for_one_thing() -> None:
    done = tandem_here("evaluate", "--mapping", "--traps", check=False)
    assert done.returncode == 2
    assert "--synthetic" in done.stderr and "--traps" in done.stderr
