"""Extensions: a module that the settings name is imported in every process, and named if it fails.

Each test writes modules of its own: an extension stays registered for the rest of the process.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import fixtures.toy_destination
import pytest
from fixtures.daemon import tandem

from appliance.assays.registry import assays
from appliance.cli.job_progress import JobProgress
from appliance.delivery.destinations.contract import open_destination, wants
from appliance.errors import SettingsError
from appliance.evaluation.pool import run_all
from appliance.line.child import Child, Limits
from appliance.settings.destinations import DestinationSection, FolderDestination
from appliance.settings.extensions import BUILT_IN, BUILT_IN_ASSAYS, load_extensions
from appliance.settings.logs import Logging
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings

LIMITS = Limits(deadline_s=300.0, silent_s=300.0)
TOY = Path(fixtures.toy_destination.__file__)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the site's modules."""
    made = tmp_path / "site"
    made.mkdir()
    monkeypatch.syspath_prepend(str(made))
    return made


def toy(site: Path, kind: str) -> str:
    """Write the toy destination as a module of the site, for a kind of its own."""
    name = f"site_{kind}"
    text = TOY.read_text().replace('Literal["shelf"]', f'Literal["{kind}"]')
    (site / f"{name}.py").write_text(text)
    return name


def config(tmp_path: Path, module: str, kind: str, more: str = "") -> Path:
    path = tmp_path / "tandem.toml"
    (tmp_path / "scans").mkdir()
    path.write_text(
        f"extensions = ['{module}']\nstate_dir = '{tmp_path / 'state'}'\n[watch]\n"
        f"folder = '{tmp_path / 'scans'}'\n[[destinations]]\nkind = '{kind}'\n"
        f"board = '{tmp_path}'\n{more}"
    )
    return path


def opened_there(settings: Settings) -> str:
    """Open the first destination in a worker process and return the name of its class."""
    return type(open_destination(settings, settings.destinations[0])).__name__


def test_a_destination_of_an_extension_is_accepted_opened_and_sent_to_workers(
    site: Path, tmp_path: Path
) -> None:
    settings = load_settings(config(tmp_path, toy(site, "rack"), "rack", "name = 'attic'\n"))
    (section,) = settings.destinations
    assert (section.kind, section.name) == ("rack", "attic")
    shown = settings.model_dump(mode="json")["destinations"]
    assert shown == [{"objects": None, "kind": "rack", "name": "attic", "board": str(tmp_path)}]
    assert open_destination(settings, section).check() == f"shelf {tmp_path}"
    moved = settings.model_copy(update={"state_dir": tmp_path / "other"})
    assert moved.destinations == settings.destinations
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  our own bytes
    child = Child(Logging(), extensions=settings.extensions)
    try:
        assert child.run(LIMITS, opened_there, settings) == "Shelf"
    finally:
        child.close()


def test_a_worker_loads_what_no_job_brings(site: Path) -> None:
    child = Child(Logging(), extensions=(toy(site, "drawer"),))
    try:
        assert child.run(LIMITS, _loaded, ("site_drawer", *BUILT_IN))
    finally:
        child.close()


def test_processes_of_an_evaluation_load_extensions(site: Path) -> None:
    name = toy(site, "case")
    found = run_all(_loaded, [(name,)], workers=1, what="", extensions=(name,), watch=JobProgress())
    assert found == [True]


def _loaded(names: tuple[str, ...]) -> bool:
    return all(name in sys.modules for name in names)


def test_the_environment_names_extensions_too(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_EXTENSIONS", f'["{toy(site, "crate")}"]')
    settings = load_settings(config(tmp_path, "overridden_and_never_imported", "crate"))
    assert settings.extensions == ("site_crate",)
    assert settings.destinations[0].kind == "crate"


def test_a_wrong_key_of_an_extension_is_named(site: Path, tmp_path: Path) -> None:
    path = config(tmp_path, toy(site, "chest"), "chest", "bord = 1\nobjects = ['SR', 'XX']\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert "unknown key 'destinations.0.chest.bord'" in str(caught.value)
    assert "'destinations.0.chest.objects.1' = 'XX'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, "ModuleNotFoundError"), ("import", "SyntaxError"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_module_that_cannot_be_imported_is_named(
    site: Path, tmp_path: Path, text: str | None, error: str
) -> None:
    name = f"site_broken_{error.lower()}"
    if text is not None:
        (site / f"{name}.py").write_text(text)
    with pytest.raises(SettingsError, match=f"'extensions': .*'{name}'.*{error}.*PYTHONPATH"):
        load_settings(config(tmp_path, name, "folder"))


def test_a_module_runs_once(site: Path) -> None:
    (site / "site_counts.py").write_text(
        "from pathlib import Path\n"
        "with Path(__file__).with_suffix('.log').open('a') as log:\n"
        "    log.write('x')\n"
    )
    load_extensions(("site_counts",))
    load_extensions(("site_counts", "site_counts"))
    assert (site / "site_counts.log").read_text() == "x"


def test_two_section_types_of_one_kind_are_refused(site: Path) -> None:
    with pytest.raises(SettingsError, match="two section types for destinations of kind 'folder'"):
        load_extensions((toy(site, "folder"),))
    settings = Settings()
    assert isinstance(settings.destinations[0], FolderDestination)


def test_an_unknown_kind_lists_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "tandem.toml"
    (tmp_path / "scans").mkdir()
    path.write_text("[[destinations]]\nkind = 'cloud'\n")
    with pytest.raises(SettingsError, match=r"'cloud'.*'folder'"):
        load_settings(path)
    section = DestinationSection(kind="cloud", name="far")
    with pytest.raises(SettingsError, match=r"'far'.*'cloud'.*dicom, dicomweb,.*folder"):
        open_destination(Settings(destinations=(section,)), section)


def test_a_destination_gets_what_it_can_hold(tmp_path: Path) -> None:
    settings = Settings(
        destinations=(
            {"kind": "shelf", "board": tmp_path},
            {"kind": "shelf", "name": "b", "board": tmp_path, "objects": ["SR", "PDF"]},
            {"kind": "folder"},
        )
    )
    wanted = [
        [kind for kind in ("WSM", "SR", "SEG") if wants(s, kind)] for s in settings.destinations
    ]
    assert wanted == [["SR", "SEG"], ["SR"], ["WSM", "SR", "SEG"]]
    with pytest.raises(SettingsError, match=r"'b' cannot hold PDF.*'shelf' takes SEG, SR"):
        open_destination(settings, settings.destinations[1])


def test_the_command_line_shows_an_extensions_trouble(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor, a process of its own: a destination is to get what it cannot hold."""
    path = config(tmp_path, toy(site, "bin"), "bin", "objects = ['WSM']\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = tandem("doctor", "--config", path, check=False)
    assert "destination shelf: destination 'shelf' cannot hold WSM" in done.stdout, done.stderr
    refused = tandem("run", "--config", path, check=False).stderr
    assert "error: destination 'shelf' cannot hold WSM" in refused


def test_the_built_in_assays_are_those_of_the_built_in_modules() -> None:
    """``tandem status`` takes the set's word for it, so as not to import them."""
    load_extensions(())
    modules = [name for name in BUILT_IN if name.startswith("appliance.assays.")]
    assert {name.split(".")[2] for name in modules} == BUILT_IN_ASSAYS
    assert {assay.name for assay in assays()} >= BUILT_IN_ASSAYS
