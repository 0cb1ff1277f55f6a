"""Systems of whole slides: they learn, are stored and loaded, and are judged by folds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.painted_slides import paint_slides
from fixtures.small_disk import small_files
from safetensors.numpy import save_file

from models.errors import DataSetError, ManifestError
from models.evaluation.reader_report import reader_report, table_rows
from models.evaluation.readers import Plan, evaluate_systems, shuffled_labels
from models.slide_level import low_resolution
from models.slide_level.cohort import CohortSlide
from models.slide_level.convnext import ConvNext, ConvNextShape
from models.slide_level.folds import draw_folds
from models.slide_level.low_resolution import LowResolution, Recipe, loss_of
from models.slide_level.manifest import (
    load_slide_weights,
    read_slide_manifest,
    reference_overview,
    save_slide_weights,
)
from models.slide_level.networks import NETWORKS, SlideNetwork
from models.slide_level.system import SYSTEMS, load_fitted, system
from models.slide_level.tasks import SlideTask, class_of
from models.slide_level.temperature import calibrated, fit_temperature
from models.training.reader import train_reader
from models.training.replacing import replaced

TINY: dict[str, dict[str, Any]] = {
    "reference": {"kind": "shares", "pixel": 4, "widths": (8, 12, 16), "inner": 8},
    "small-convnext": {
        "kind": "convnext",
        "depths": (1, 1),
        "widths": (8, 16),
        "layer_scale": 0.1,
    },
    "convnext-s": {"kind": "convnext", "depths": (1, 1, 2, 1), "widths": (8, 8, 8, 8)},
    "resnet-50": {
        "kind": "resnet",
        "embedding_size": 8,
        "hidden_sizes": (16, 16),
        "depths": (1, 1),
    },
    "densenet-201": {"kind": "densenet", "growth": 4, "blocks": (2, 2), "first": 8},
    "vit-b": {
        "kind": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    },
}
"""Each network's own class at tiny sizes."""
SMALL = LowResolution(
    "reference-224", Recipe(network="reference", px=32, epochs=25, rate=1e-2), TINY["reference"]
)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> list[CohortSlide]:
    return paint_slides(tmp_path_factory.mktemp("painted"), 60)


def truth(slides: list[CohortSlide], task: SlideTask) -> list[int | None]:
    return [class_of(slide.label, task) for slide in slides]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_lowers_the_loss_of_each_network(name: str) -> None:
    assert TINY[name]["kind"] == NETWORKS[name]["kind"]
    torch.manual_seed(1)
    network = SlideNetwork(TINY[name], 3, 32)
    density, classes = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = loss_of(network(density).logits, classes, "cross-entropy", None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_sizes_are_those_of_the_papers() -> None:
    """Millions of parameters with 1,000 classes: ConvNeXt-S 50.2, DenseNet-201 20.0, …"""
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in SlideNetwork(NETWORKS[name], 1000, 224).parameters()) / 1e6
            for name in ("convnext-s", "resnet-50", "densenet-201", "vit-b")
        }
    expected = {"convnext-s": 50.22, "resnet-50": 25.56, "densenet-201": 20.01, "vit-b": 86.57}
    assert sizes == pytest.approx(expected, abs=0.01)


def test_convnext_is_that_of_transformers() -> None:
    from transformers import ConvNextConfig, ConvNextModel

    torch.manual_seed(2)
    theirs = ConvNextModel(
        ConvNextConfig(
            depths=[1, 2], hidden_sizes=[8, 16], num_stages=2, layer_scale_init_value=0.5
        )
    ).eval()
    ours = ConvNext(ConvNextShape(depths=(1, 2), widths=(8, 16))).eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(ours(pixels), theirs(pixels).pooler_output, atol=1e-5)


def test_focal_loss_and_class_weights_by_hand() -> None:
    logits, classes = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    chance = torch.softmax(logits, dim=1)[:, 0]
    assert loss_of(logits, classes, "focal", None) == pytest.approx(
        float((-((1 - chance) ** 2) * chance.log()).mean())
    )
    weights = low_resolution._class_weights(np.array([0, 0, 0, 1]), 2, "class-weights")
    assert weights is not None and weights.tolist() == pytest.approx([2 / 3, 2])


def test_temperature_makes_confidence_true() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (4000, 3))
    drawn = np.array([rng.choice(3, p=p) for p in calibrated(logits, 2.5)])
    assert fit_temperature(logits, drawn) == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize("name", ["small network", "mean-dab", "dab-shares"])
def test_a_system_learns_and_is_loaded_as_it_was_saved(
    painted: list[CohortSlide], tmp_path: Path, name: str
) -> None:
    task = SlideTask.FOUR_WAY
    given = SMALL if name == "small network" else system(name)
    fitted = given.fit(painted[:40], painted[40:48], task, seed=1, say=silent)
    found = fitted.predict(painted[48:])
    assert found.sum(axis=1) == pytest.approx(1)
    right = (found.argmax(axis=1) == truth(painted[48:], task)).mean()
    assert right >= 0.75
    fitted.save(tmp_path)
    again = load_fitted(tmp_path).predict(painted[48:])
    assert again == pytest.approx(found, abs=0.02)  # weights are kept as float16
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ManifestError, match="checksum"):
        load_fitted(tmp_path)


def test_steps_that_were_counted_are_no_weights_and_what_is_no_number_is_refused(
    tmp_path: Path,
) -> None:
    spec = read_slide_manifest(reference_overview())
    counter = "norm.num_batches_tracked"
    saved = {"weight": np.ones(2), counter: np.array(70_000)}
    save_slide_weights(tmp_path, spec, saved)
    assert load_slide_weights(tmp_path)[counter] == 65_504
    file = tmp_path / "model.safetensors"
    former = {"weight": np.ones(2, np.float16), counter: np.array(np.inf, np.float16)}
    save_file(former, file)
    assert set(load_slide_weights(tmp_path)) == set(saved)
    save_file(former | {"weight": np.array([1, np.nan], np.float16)}, file)
    with pytest.raises(ManifestError, match="weight holds what is no finite number"):
        load_slide_weights(tmp_path)


def test_equal_seeds_make_equal_weights(painted: list[CohortSlide]) -> None:
    short = replace(SMALL, recipe=replace(SMALL.recipe, epochs=1))
    first, again, other = (
        short.fit(painted[:16], painted[16:24], SlideTask.FOUR_WAY, seed=s, say=silent).predict(
            painted[24:32]
        )
        for s in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_what_speaks_for_a_class_is_in_the_section(painted: list[CohortSlide]) -> None:
    fitted = SMALL.fit(painted[:24], painted[24:32], SlideTask.FOUR_WAY, seed=1, say=silent)
    picture = low_resolution.read_section(painted[35].overview, 32)
    heat = fitted.explain(picture, 3)
    assert heat.shape == (8, 8) and heat.min() >= 0
    with pytest.raises(ManifestError, match="no map"):
        SlideNetwork(TINY["vit-b"], 3, 32).explained(torch.rand(1, 3, 32, 32), 0)


def test_manifests_of_other_kinds_are_refused(tmp_path: Path) -> None:
    facts = {
        "name": "n",
        "version": "1",
        "system": "reference-224",
        "task": "3way",
        "classes": ["0", "low", "high"],
        "input": {"px": 32},
        "sha256": "",
    }
    path = tmp_path / "manifest.json"
    for change in ({"temperature": 0}, {"classes": ["0", "1+"]}, {"task": "tumor"}, {"more": 1}):
        path.write_text(json.dumps(facts | change))
        with pytest.raises(ManifestError, match="not a usable manifest"):
            read_slide_manifest(tmp_path)
    path.write_text(json.dumps(facts))
    with pytest.raises(ManifestError, match="is missing"):
        load_fitted(tmp_path)
    with pytest.raises(DataSetError, match=r"no system 'unet'\. There are: .*reference-224"):
        system("unet")


class Counting:
    """The plain system of shares, with the number of its trainings."""

    name = "dab-shares"

    def __init__(self) -> None:
        self.fits = 0

    def fit(self, *args: Any, **more: Any) -> Any:
        self.fits += 1
        return system(self.name).fit(*args, **more)


def test_folds_are_judged_once_and_a_stopped_run_goes_on(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    counting = Counting()
    plan = Plan(
        slides=painted,
        systems={counting.name: counting},
        tasks=[SlideTask.THREE_WAY],
        folds=4,
        seed=1,
        shifted=painted[:12],
        settings={},
    )
    result = evaluate_systems(plan, tmp_path, silent)
    found = result["tasks"]["3way"]["systems"][counting.name]
    assert counting.fits == 4
    assert sum(map(sum, found["details"]["confusion"])) == 60
    folds = [fold["auc"] for fold in found["by_fold"]]
    assert found["auc"]["mean"] == pytest.approx(np.mean(folds), abs=1e-3)
    assert found["auc"]["deviation"] == pytest.approx(np.std(folds, ddof=1), abs=1e-3)
    assert found["auc"]["mean"] > 0.9 and found["shifted"]["auc"]["mean"] > 0.9
    assert all(m["label"] != m["found"] for m in found["misread"])

    (tmp_path / "3way" / counting.name / "fold-2.json").write_text("{")
    assert evaluate_systems(plan, tmp_path, silent) == result
    assert counting.fits == 5
    evaluate_systems(replace(plan, settings={"loss": "focal"}), tmp_path, silent)
    assert counting.fits == 9

    page = reader_report(result | {"data": "given", "shuffled": False})
    assert "Synthetic figures" not in page and "ConvNeXt-S, end to end" in page
    assert [row[0] for row in table_rows("3way", result["tasks"]["3way"])] == [
        "dab-shares",
        "dab-shares, other scanner and run",
    ]


def test_shuffled_labels_teach_nothing(painted: list[CohortSlide], tmp_path: Path) -> None:
    shuffled = shuffled_labels(painted, 3)
    assert sorted(s.label.her2 or "" for s in shuffled) == sorted(
        s.label.her2 or "" for s in painted
    )
    plan = Plan(
        slides=shuffled,
        systems={"mean-dab": system("mean-dab")},
        tasks=[SlideTask.FOUR_WAY],
        folds=4,
        seed=1,
        settings={},
    )
    found = evaluate_systems(plan, tmp_path, silent)["tasks"]["4way"]["systems"]["mean-dab"]
    assert 0.3 < found["auc"]["mean"] < 0.7


def test_trained_weights_have_figures_and_a_card(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    spec = train_reader(
        system("dab-shares"),
        painted,
        SlideTask.FOUR_WAY,
        tmp_path,
        seed=1,
        data="60 painted slides.",
        say=silent,
    )
    assert spec == read_slide_manifest(tmp_path)
    assert spec.figures["test_slides"] == 6
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "48 slides of 48 patients trained, 6 slides of 6 patients stopped and" in card
    assert "own folds" not in card
    assert "research only" in card and f"| auc | {spec.figures['auc']} |" in card


def test_a_training_that_ends_with_an_error_leaves_the_weights_of_before(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    def train(slides: list[CohortSlide]) -> None:
        train_reader(
            system("dab-shares"), slides, SlideTask.FOUR_WAY, tmp_path, seed=1, data="60 slides.",
            say=silent,
        )  # fmt: skip

    train(painted)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (judged,) = draw_folds(painted, SlideTask.FOUR_WAY, seed=1)[0].test[:1]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataSetError, match="not a readable picture"):
        train([replace(s, overview=broken) if s is judged else s for s in painted])
    broken.unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_cohorts_own_folds_are_counted_as_they_are(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    names = sorted({slide.patient for slide in painted})
    own = [replace(slide, fold=2 + names.index(slide.patient) % 13 % 4) for slide in painted]
    task = SlideTask.FOUR_WAY
    chosen = system("dab-shares")
    plan = Plan(slides=own, systems={"a": chosen}, tasks=[task], folds=10, seed=1, settings={})
    result = evaluate_systems(plan, tmp_path / "runs", silent)
    assert (result["folds"], result["tasks"]["4way"]["folds"]) == (4, 4)
    assert len(result["tasks"]["4way"]["systems"]["a"]["by_fold"]) == 4
    page = reader_report(result | {"data": "given", "shuffled": False})
    assert "4way, 4 folds" in page and "10 folds" not in page

    spec = train_reader(chosen, own, task, tmp_path, seed=1, data="A site's.", say=silent)
    parts = [[s for s in own if s.fold in folds] for folds in ((4, 5), (3,), (2,))]
    slides, patients = map(len, parts), (len({s.patient for s in part}) for part in parts)
    did = ("trained", "stopped and calibrated", "judged")
    words = ", ".join(
        f"{n} slides of {m} patients {w}" for n, m, w in zip(slides, patients, did, strict=True)
    )
    assert spec.figures["test_slides"] == len(parts[2]) > 6
    assert f"{words}, by the cohort's own folds" in (tmp_path / "MODEL_CARD.md").read_text()


def test_a_class_that_nobody_learns_or_judges_is_told(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    task = SlideTask.FOUR_WAY

    def folds(strong: int | None) -> list[CohortSlide]:
        """Three folds; all 3+ in one of them."""
        return [
            replace(s, fold=strong if strong is not None and s.label.her2 == "3+" else k // 4 % 3)
            for k, s in enumerate(painted)
        ]

    short = replace(SMALL, recipe=replace(SMALL.recipe, epochs=1))
    with pytest.raises(DataSetError, match=r"no slide of class '3\+' in the training part"):
        train_reader(short, folds(1), task, tmp_path, seed=1, data="Painted.", say=silent)
    spec = train_reader(
        system("dab-shares"), folds(2), task, tmp_path, seed=1, data="Painted.", say=silent
    )
    assert spec.figures["per_class_f1"]["3+"] is None
    assert "| F1 3+ | no slide |" in (tmp_path / "MODEL_CARD.md").read_text()
    with pytest.raises(DataSetError, match=r"9 patients .* needs 10\. Add some"):
        train_reader(short, painted[:9], task, tmp_path, seed=1, data="Painted.", say=silent)


def test_every_listed_system_can_be_had() -> None:
    for name, listed in SYSTEMS.items():
        assert system(name).name == name and listed.words


def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    counting = Counting()
    (tmp_path / "file").write_bytes(b"")
    for out, limit in ((tmp_path / "file" / "weights", 1 << 30), (tmp_path / "full", 1 << 16)):
        with small_files(limit), pytest.raises(DataSetError, match=f"{out}: .*another folder"):
            train_reader(
                counting, painted, SlideTask.FOUR_WAY, out, seed=1, data="Painted.", say=silent
            )
    assert counting.fits == 0


def test_a_disk_that_is_full_at_the_end_is_told_with_its_folder(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    fitted = SMALL.fit(painted[:8], painted[8:16], SlideTask.FOUR_WAY, seed=1, say=silent)
    with pytest.raises(DataSetError, match=f"{tmp_path}: File too large"):  # noqa: SIM117
        with replaced(tmp_path) as part, small_files(64):
            fitted.save(part)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_without_a_class_is_told_before_any_is_trained(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    """A class of one patient leaves the folds that test or stop with them."""
    strong = [slide for slide in painted if slide.label.her2 == "3+"]
    slides = [slide for slide in painted if slide not in strong[1:]]
    counting = Counting()
    tasks = [SlideTask.BINARY, SlideTask.FOUR_WAY]
    plan = Plan(slides=slides, systems={"a": counting}, tasks=tasks, folds=10, seed=1, settings={})
    with pytest.raises(DataSetError, match=r"fold \d+: no slide of class '.*' in the training"):
        evaluate_systems(plan, tmp_path, silent)
    assert counting.fits == 0


def test_folds_of_one_patient_have_no_auc(painted: list[CohortSlide], tmp_path: Path) -> None:
    slides = [slide for slide in painted if slide.label.her2 in ("0", "3+")][:8]
    systems = {"dab-shares": system("dab-shares")}
    plan = Plan(
        slides=slides, systems=systems, tasks=[SlideTask.BINARY], folds=8, seed=1, settings={}
    )
    result = evaluate_systems(plan, tmp_path, silent)
    found = result["tasks"]["binary"]["systems"]["dab-shares"]
    assert found["auc"] == {"mean": None, "deviation": None}
    json.dumps(result, allow_nan=False)
    assert next(iter(table_rows("binary", result["tasks"]["binary"])))[1] == "-"
    reader_report(result | {"data": "given", "shuffled": False})
