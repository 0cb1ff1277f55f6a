"""Guarantees about the whole tree: the only door to torch, package names, reference weights."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from models.spec import Task, reference_folder, verify

ROOT = Path(__file__).resolve().parents[1]
MAX_REFERENCE_MB = 60


@pytest.mark.parametrize(
    "imported",
    [
        "appliance.cli.main",
        "appliance.assays.her2.assay",
        "appliance.assays.registry",
        "appliance.readers.cells",
        "appliance.readers.segmentation",
        "appliance.readers.tumor",
        "appliance.words",
        "appliance.evaluation.pairs",
        "appliance.line.daemon",
        "appliance.line.process",
        "appliance.operations.doctor",
        "appliance.readers.chosen_weights",
        "appliance.operations.install_weights",
        "appliance.operations.picture",
        "models.appearance",
        "models.picture.kinds",
        "appliance.slides.picture",
        "dashboard.queries",
        "appliance.findings.overlay",
        "appliance.delivery.page",
        "appliance.line.slide_bags",
        "models.mil.bag",
        "models.spec",
        "models.training.configuration",
        "models.training.campaign",
        "models.synthesis.slides",
        "dicom.pacs",
        "dicom.report",
    ],
)
def test_a_fresh_interpreter_never_loads_torch(imported: str) -> None:
    code = (
        f"import sys, {imported}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_the_commands_starts_without_numpy() -> None:
    code = "import sys, appliance.cli.main; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_daemon_starts_without_the_libraries_that_only_its_steps_need() -> None:
    code = (
        "import sys, appliance.line.daemon\n"
        "from appliance.settings.extensions import load_extensions\n"
        "load_extensions(())\n"
        "print([m for m in ('SimpleITK', 'scipy', 'skimage', 'reportlab') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_torch_test_can_fail() -> None:
    code = "import sys, appliance.readers.inference; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_package_names_are_ours_alone() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in ("appliance", "models", "dicom", "dashboard"):
        assert set(owners.get(name, ["tandem-her2"])) == {"tandem-her2"}


@pytest.mark.parametrize("task", list(Task))
def test_reference_weights_are_those_of_their_manifest(task: Task) -> None:
    folder = reference_folder(task)
    spec = verify(folder)
    assert spec.task is task
    assert spec.figures["data"].startswith("synthetic")
    assert spec.trained["seed"] is not None
    assert (folder / "MODEL_CARD.md").is_file()


def test_reference_weights_are_small_enough_for_the_repository() -> None:
    files = (ROOT / "models" / "reference").rglob("*.safetensors")
    assert sum(path.stat().st_size for path in files) < MAX_REFERENCE_MB * 1e6


def test_every_dependency_is_pinned_and_explained() -> None:
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    explained = (ROOT / "docs" / "dependencies.md").read_text().lower()
    requires = importlib.metadata.requires("tandem-her2") or []
    for requirement in requires:
        name = requirement.split(";")[0].split("=")[0].split("<")[0].split(">")[0].strip().lower()
        assert name in pins, name
        if "extra" not in requirement:
            assert name.split("[")[0].replace("opencv-python-headless", "opencv") in explained
    assert "torch==2.13.0" in (ROOT / "requirements.lock").read_text()
