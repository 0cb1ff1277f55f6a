"""Results of pairs on disk: the same case comes back, or none."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from fixtures.judged_cases import a_judged_case
from fixtures.slide_objects import write_svs
from fixtures.small_disk import fill, small_disk
from fixtures.weights import tiny_weights

from appliance.errors import SettingsError
from appliance.evaluation import pairs
from appliance.evaluation.case import FailedCase, JudgedCase
from appliance.evaluation.case_files import CaseFiles
from appliance.evaluation.kept_results import (
    RESULT_NAME,
    file_facts,
    load_result,
    result_key,
    run_facts,
    save_result,
)
from appliance.evaluation.pair_figures import summarize
from appliance.operations.install_weights import install_weights, select_weights
from appliance.operations.site_calibration import store_calibration
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.lanes import Lanes
from appliance.settings.networks import ModelSettings
from appliance.settings.scoring import Review
from appliance.settings.settings import Settings
from models.site_calibration import SiteCalibration
from models.spec import MANIFEST_NAME, Task, reference_folder

FAILED = FailedCase(patient="S26-00002", score=1, problem="no tissue", facts={"organ": "gastric"})


def test_a_pair_of_which_a_folder_is_missing_stops_no_evaluation(tmp_path: Path) -> None:
    he, ihc, truth = (tmp_path / name for name in ("a_HE.mrxs", "a_HER2.svs", "truth.json"))
    for path in (he, ihc, truth):
        path.touch()
    without = file_facts(CaseFiles(he=he, ihc=ihc, truth=truth))
    he.with_suffix("").mkdir()
    (he.with_suffix("") / "Slidedat.ini").touch()
    assert len(file_facts(CaseFiles(he=he, ihc=ihc, truth=truth))) == len(without) + 1 == 4


def test_a_pair_whose_file_cannot_be_opened_fails_by_itself_and_is_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    folder.mkdir()
    truth = tmp_path / "truth.json"
    needed = {"score": "0", "masks_mpp": 1, "classes_mpp": 1, "percent": {}}
    truth.write_text(json.dumps(needed))
    slide = tmp_path / f"{'x' * 300}.svs"  # no file system has such a name
    files = CaseFiles(he=slide, ihc=slide, truth=truth)
    job = pairs.Job(name="pair", folder=folder, files=files, key="k")
    case = pairs._work(job, Settings(state_dir=tmp_path / "state"))
    assert isinstance(case, FailedCase)
    assert case.problem == "OSError: File name too long"
    assert not (folder / RESULT_NAME).exists()


def a_pair(folder: Path) -> CaseFiles:
    """Two slides, and a truth that nobody reads to its end."""
    truth = folder / "truth.json"
    needed = {"score": "0", "masks_mpp": 1, "classes_mpp": 1, "percent": {}}
    truth.write_text(json.dumps(needed))
    he, ihc = (write_svs(folder / f"S26-1_A1_{stain}.svs") for stain in ("HE", "HER2"))
    return CaseFiles(he=he, ihc=ihc, truth=truth)


def test_a_full_disk_of_the_results_fails_no_pair(tmp_path: Path) -> None:
    files, settings = a_pair(tmp_path), Settings(state_dir=tmp_path / "state")
    with small_disk(tmp_path / "out", 64) as out:
        fill(out)
        with pytest.raises(OSError, match="No space left"):
            pairs._work(pairs.Job(name="pair", folder=out, files=files, key="k"), settings)


def test_results_that_have_no_place_fail_no_pair(tmp_path: Path) -> None:
    job = pairs.Job(name="pair", folder=tmp_path, files=a_pair(tmp_path), key="k")
    (tmp_path / "results").touch()
    with pytest.raises(SettingsError, match="--out"):
        pairs._work(job, Settings(state_dir=tmp_path / "state"))
    assert not (tmp_path / RESULT_NAME).exists()


@pytest.mark.parametrize(
    ("number", "of_the_pair"),
    [
        *((errno.ENOENT, True), (errno.EACCES, True), (errno.ELOOP, True), (errno.EINVAL, True)),
        *((errno.EROFS, False), (errno.EIO, False), (errno.ESTALE, False), (errno.EMFILE, False)),
        *((errno.ENOTCONN, False), (errno.EDQUOT, False)),
    ],
)
def test_trouble_of_a_disk_or_a_share_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, of_the_pair: bool
) -> None:
    def judge(*_: object) -> JudgedCase:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pairs, "judge_case", judge)
    job = pairs.Job(name="pair", folder=tmp_path, files=a_pair(tmp_path), key="k")
    settings = Settings(state_dir=tmp_path / "state")
    if of_the_pair:
        assert isinstance(pairs._work(job, settings), FailedCase)
        return
    with pytest.raises(OSError, match=os.strerror(number)):
        pairs._work(job, settings)


def test_a_result_comes_back_bit_for_bit(tmp_path: Path) -> None:
    case = a_judged_case(review=("little-tumor", "borderline"), wrong_tiles=3)
    save_result(tmp_path, "k", case)
    again = load_result(tmp_path, "k")
    assert isinstance(again, JudgedCase)
    assert again.review == case.review
    for name, value in asdict(case).items():
        np.testing.assert_equal(getattr(again, name), value)
    for side in ("model", "baseline"):
        assert again.he_said[side].dtype == case.he_said[side].dtype == np.float32
        assert again.matrices[side].dtype == np.int64
    source = {"data": "synthetic"}
    assert json.dumps(summarize([again, FAILED], Settings(), source)) == json.dumps(
        summarize([case, FAILED], Settings(), source)
    )
    assert [path.name for path in tmp_path.iterdir()] == [RESULT_NAME]


def test_a_case_without_tiles_comes_back(tmp_path: Path) -> None:
    full = a_judged_case()
    nothing = {
        name: value[:0] for name, value in asdict(full).items() if isinstance(value, np.ndarray)
    }
    sides = {
        name: {side: array[:0] for side, array in getattr(full, name).items()}
        for name in ("he_said", "ihc_said", "matrices")
    }
    case = JudgedCase(**(asdict(full) | nothing | sides))
    save_result(tmp_path, "k", case)
    again = load_result(tmp_path, "k")
    assert isinstance(again, JudgedCase)
    assert again.matrices["model"].shape == (0, 5, 5)
    assert again.ihc_said["baseline"].shape == (0, 4)


def test_a_failed_case_comes_back(tmp_path: Path) -> None:
    save_result(tmp_path, "k", FAILED)
    assert load_result(tmp_path, "k") == FAILED


def test_a_result_of_another_key_is_not_used(tmp_path: Path) -> None:
    assert load_result(tmp_path, "k") == "absent"
    save_result(tmp_path, "other", FAILED)
    assert load_result(tmp_path, "k") == "other"
    save_result(tmp_path, "k", FAILED)
    assert load_result(tmp_path, "k") == FAILED


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_half_a_result_is_none(tmp_path: Path, part: float) -> None:
    save_result(tmp_path, "k", a_judged_case())
    path = tmp_path / RESULT_NAME
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert load_result(tmp_path, "k") == "damaged"


@pytest.mark.parametrize(
    ("was", "put"),
    [
        ('"score": 2', '"score": 3'),
        ('"k"', '"j"'),
        ('"1+": 0.2', '"1+": 0.3'),
        ('"judged"', '"failed"'),
    ],
)
def test_a_changed_result_is_none(tmp_path: Path, was: str, put: str) -> None:
    save_result(tmp_path, "k", a_judged_case())
    path = tmp_path / RESULT_NAME
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, put, 1))
    assert load_result(tmp_path, "k") == "damaged"


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"sha256": "x"}', "\x00" * 64])
def test_another_file_is_no_result(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULT_NAME).write_text(text)
    assert load_result(tmp_path, "k") == "damaged"


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".{RESULT_NAME}.0a").write_text("half")
    save_result(tmp_path, "k", FAILED)
    assert [path.name for path in tmp_path.iterdir()] == [RESULT_NAME]


def test_a_key_holds_what_a_result_depends_on(tmp_path: Path) -> None:
    pair = {"draw": {"seed": 1}, "size_px": [2560, 2048]}
    plain = Settings()
    key = result_key(pair, run_facts(plain))

    def with_settings(**changed: object) -> str:
        return result_key(pair, run_facts(plain.model_copy(update=changed)))

    assert with_settings(state_dir=tmp_path, lanes=Lanes(), log_level="DEBUG") == key
    assert with_settings(review=Review(min_tumor_cells=7)) != key
    assert with_settings(models=ModelSettings(runtime="openvino")) != key
    assert result_key({**pair, "draw": {"seed": 2}}, run_facts(plain)) != key
    assert result_key({**pair, "size_px": [4096, 3072]}, run_facts(plain)) != key

    # Equal weights in another folder are the same; another temperature gives other answers.
    weights = tmp_path / "weights"
    weights.mkdir()
    for file in reference_folder(Task.INTENSITY).iterdir():
        (weights / file.name).write_bytes(file.read_bytes())
    assert with_settings(models=ModelSettings(intensity=weights)) == key
    manifest = json.loads((weights / MANIFEST_NAME).read_text())
    manifest["temperature"] *= 2
    (weights / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert with_settings(models=ModelSettings(intensity=weights)) != key


class Silent:
    """Watcher of a run that nobody looks at."""

    def begins(self, what: str, total: int, there: int, at_once: int) -> None: ...
    def step(self, job: int, what: str, done: int, total: int) -> None: ...
    def ended(self, job: int, said: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class Noting(Silent):
    """Watcher that keeps the lines of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_weights_that_are_selected_meanwhile_judge_no_pair_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pairs other weights are selected; at the third the site is calibrated."""
    settings = Settings(state_dir=tmp_path / "state")
    tiny_weights(tmp_path / "ours", task=Task.INTENSITY)
    install_weights(tmp_path / "ours", settings, "ours")
    _, first = chosen_weights(Task.INTENSITY, settings)
    used: list[str] = []

    def judged(_files: object, _to: Path, given: Settings, _report: object) -> JudgedCase:
        spec = chosen_weights(Task.INTENSITY, given)[1]
        used.append(spec.fingerprint)
        if len(used) == 1:
            select_weights(Task.INTENSITY, "ours", settings)
        if len(used) == 3:
            site = SiteCalibration(
                task="intensity",
                weights=first.weights_fingerprint,
                scale=2.0,
                offsets=(0.0,) * 4,
                tiles=40,
                patients=6,
                made="2026-01-01",
            )
            store_calibration(site, first, settings)
        return a_judged_case()

    def in_turn(work: Callable[[pairs.Job], object], jobs: list[pairs.Job], **_: object) -> object:
        return [work(job) for job in jobs]

    def made(job: pairs.Job) -> CaseFiles:
        job.folder.mkdir(parents=True, exist_ok=True)
        truth = {"score": "0", "masks_mpp": 1, "classes_mpp": 1, "percent": {}}
        (job.folder / "truth.json").write_text(json.dumps(truth))
        return CaseFiles(he=job.folder, ihc=job.folder, truth=job.folder / "truth.json")

    monkeypatch.setattr(pairs, "judge_case", judged)
    monkeypatch.setattr(pairs, "run_all", in_turn)
    monkeypatch.setattr(pairs, "_made", made)
    out, watch = tmp_path / "out", Noting()
    result = pairs.evaluate_synthetic(
        1, 3, settings, size_px=(2560, 2048), out_dir=out, workers=1, watch=watch
    )
    assert used == 3 * [first.fingerprint]
    assert result["weights"]["intensity"]["sha256"] == first.sha256
    # The third pair was calibrated as it was judged: whose answer it is nobody can say.
    assert [(out / f"case-00{n}" / RESULT_NAME).exists() for n in (1, 2, 3)] == [True, True, False]
    # The summary holds pairs before and after the calibration, and says so.
    assert result["changed_meanwhile"] is True
    assert [note.split(":")[0] for note in watch.notes] == [
        "weights or a calibration were changed meanwhile"
    ]
    for kept in (out, None):
        again = Noting()
        unchanged = pairs.evaluate_synthetic(
            1, 3, settings, size_px=(2560, 2048), out_dir=kept, workers=1, watch=again
        )
        assert unchanged["changed_meanwhile"] is False
        assert not any("meanwhile" in note for note in again.notes)
