"""Results of judged pairs on disk: what a run that was stopped need not do again.

Each pair's result is the file `RESULT_NAME` in the pair's folder: JSON with a checksum. It holds a
key, the hash of everything that the result depends on: the pair, the settings that change a result,
the weights and the code. A result with another key is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliance.assays.registry import tasks, with_own_weights
from appliance.errors import SettingsError
from appliance.evaluation.case import FailedCase, JudgedCase
from appliance.evaluation.case_files import CaseFiles
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.settings import Settings
from appliance.slides.files import slide_files

RESULT_NAME = "judged.json"
Unusable = Literal["absent", "other", "damaged"]
"""Why a result cannot be used: it is not there, has another key, or is not what was written."""
_CODE = ("appliance", "dicom", "models")
_CODE_SUFFIXES = (".py", ".toml", ".json")
_KINDS: dict[str, type[JudgedCase | FailedCase]] = {"judged": JudgedCase, "failed": FailedCase}
_DTYPES = ("float32", "float64", "int64")


def result_key(pair: dict[str, Any], run: dict[str, Any]) -> str:
    """Key (hex) of the result of a pair in a run; both are given as JSON-serializable facts."""
    return _hash({"pair": pair, "run": run})


def run_facts(settings: Settings) -> dict[str, Any]:
    """Facts that every result of a run depends on: settings, weights and code.

    Raises
    ------
    WeightsError, ManifestError
        See `chosen_weights`.
    """
    asked = settings.model_dump(
        mode="json",
        include={
            "extensions": True,
            "identify": True,
            "pair": {"expected_assays"},
            "patients": True,
            "models": {"device", "runtime"},
            "scoring": True,
            "review": True,
            "worklist": True,
            "orders": True,
        },
    )
    weights = {task.value: chosen_weights(task, settings)[1].fingerprint for task in tasks()}
    weights |= {name: one.own_weights(settings) for name, one in with_own_weights().items()}
    return {"settings": asked, "weights": weights, "code": _code_sha256()}


def file_facts(case: CaseFiles) -> list[list[Any]]:
    """Name, size and time of change of all files of a given pair: slides, sidecars and truth."""
    found = {case.he, case.ihc}
    for path in (case.he, case.ihc):
        with suppress(OSError):  # an MRXS slide without its folder fails as a pair, not here
            found.update(slide_files(path))
    for path, stem in ((case.he, case.he.stem), (case.ihc, case.ihc.stem)):
        found.update(near for near in path.parent.iterdir() if near.name.startswith(stem))
    found.update(
        near for near in case.truth.parent.iterdir() if near.name.startswith(case.truth.stem)
    )
    stats = {path: path.stat() for path in sorted(found) if path.is_file()}
    return [[path.name, facts.st_size, facts.st_mtime_ns] for path, facts in stats.items()]


def save_result(folder: Path, key: str, case: JudgedCase | FailedCase) -> None:
    """Write the result of a pair into its folder; it gets its name only when all of it is on disk.

    Raises
    ------
    SettingsError
        If it cannot be written.
    """
    kind = "judged" if isinstance(case, JudgedCase) else "failed"
    document = {"key": key, "kind": kind, "case": _plain(asdict(case))}
    text = json.dumps({"sha256": _hash(document), **document}, ensure_ascii=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{RESULT_NAME}.*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        _write_whole(folder / RESULT_NAME, text.encode())
    except OSError as err:
        raise SettingsError(f"--out {folder}: {err.strerror}. Choose another folder.") from err


def load_result(folder: Path, key: str) -> JudgedCase | FailedCase | Unusable:
    """Result of a pair that was saved under `key`, or why there is none."""
    path = folder / RESULT_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("sha256") != _hash(document):
            return "damaged"
        if document["key"] != key:
            return "other"
        facts = _restored(document["case"])
        if "review" in facts:
            facts["review"] = tuple(facts["review"])
        return _KINDS[document["kind"]](**facts)
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "damaged"


@cache
def _code_sha256() -> str:
    """SHA-256 (hex) over the code and the tables of the packages that make a result."""
    total = hashlib.sha256()
    for package in _CODE:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*")):
            if path.suffix in _CODE_SUFFIXES and path.is_file():
                total.update(f"{package}/{path.relative_to(root).as_posix()}".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Value for JSON; an array keeps its type and shape, and every number exactly."""
    if isinstance(value, np.ndarray):
        flat: list[Any] = value.ravel().tolist()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": flat}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _restored(value: Any) -> Any:
    """Inverse of `_plain`, but for tuples."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"dtype", "shape", "values"}:
        if value["dtype"] not in _DTYPES:
            raise ValueError("not an array of a result")
        array: NDArray[Any] = np.array(value["values"], dtype=value["dtype"])
        return array.reshape(value["shape"])
    return {name: _restored(part) for name, part in value.items()}


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
