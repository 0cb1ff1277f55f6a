"""The work of ``tandem picture``: pictures of a case, written to a folder and kept."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore, is_as_written, is_unchecked
from appliance.assays.registry import find_assay
from appliance.delivery.pictures.case import LEVELS as LEVELS
from appliance.delivery.pictures.case import WHATS as WHATS
from appliance.delivery.pictures.case import Level, PicturedCase, What
from appliance.delivery.pictures.drawing import png
from appliance.delivery.pictures.make import make_pictures, pictures_key
from appliance.errors import SettingsError, SlideError, SourceChangedError
from appliance.findings.codec import load_findings
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, id_named
from appliance.operations.start_checks import require_outside
from appliance.operations.status import require_ledger
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings


def write_pictures(
    settings: Settings,
    subject: str,
    out: Path,
    whats: Sequence[What],
    levels: Sequence[Level],
    progress: Progress,
    *,
    attention: bool,
) -> list[Path]:
    """Write pictures of a case into `out`; return the files.

    When all are made, they take the place of those that were there of the same slides and levels.
    `subject` is a case of the ledger (``case-3``) or a folder that ``tandem process`` wrote. Of a
    case the pictures are kept among the artifacts too, where the dashboard finds them.

    Raises
    ------
    SettingsError
        If there is no such case, it has no result, a slide's file is gone or another one, or `out`
        cannot be written or lies inside of a scanner's folder.
    WeightsError, models.errors.ManifestError
        See `make_pictures`.
    """
    require_outside(settings, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SettingsError(f"--out {out}: {err.strerror}. Choose another folder.") from err
    row = _row(settings, subject)
    folder = Path(subject) if row is None else _findings_folder(settings, row)
    case = _pictured(folder, "" if row is None else row.subject)
    findings_key = case.name if row is None else row.findings_key
    asked = list(product(whats, levels))
    with _store(settings, scratch=row is None) as store:
        keys = [pictures_key(findings_key, *each, attention=attention) for each in asked]
        for key, (what, level) in zip(keys, asked, strict=True):
            given = (case, folder, what, level, settings, store, progress)
            with _told(case, what, store):
                if is_as_written(store.path(key)):
                    continue
                store.discard(key)
                with store.writing(key) as place:
                    for name, pixels in make_pictures(*given, attention=attention):
                        (place / name).write_bytes(png(pixels))
        _remove_earlier(case, asked, out)
        return [file for key in keys for file in _copied(store.path(key), out)]


@contextmanager
def _told(case: PicturedCase, what: What, store: ArtifactStore) -> Iterator[None]:
    """Tell of a slide that cannot be shown, and what can; and of pictures that cannot be kept."""
    try:
        yield
    except (SlideError, SourceChangedError) as err:
        changed = isinstance(err, SourceChangedError)
        why = "is not the one that was scored" if changed else f"cannot be shown ({err})"
        raise SettingsError(
            f"{case.name}: the file of its {case.label(what)} slide {why}. Put it back, or ask for "
            "--level slide, which needs no file."
        ) from err
    except OSError as err:
        raise SettingsError(
            f"{case.name}: {err.strerror or err}. Pictures are kept in {store.root}: run this as "
            "the user of the appliance, with room on its disk."
        ) from err


def _remove_earlier(case: PicturedCase, asked: Sequence[tuple[What, Level]], out: Path) -> None:
    """Remove pictures of an earlier result, which may have had more of them."""
    name = re.compile(rf"{re.escape(case.name)}-(.+?)-(.+?)(-[0-9]+)?\.png")
    try:
        for path in out.iterdir():
            found = name.fullmatch(path.name)
            if found is not None and found.group(1, 2) in asked:
                path.unlink()
    except OSError as err:
        raise SettingsError(f"--out {out}: {err.strerror}. Choose another folder.") from err


def _copied(folder: Path, out: Path) -> list[Path]:
    names = sorted(path.name for path in folder.iterdir() if path.name != SUMS_NAME)
    try:
        return [shutil.copyfile(folder / name, out / name) for name in names]
    except OSError as err:
        raise SettingsError(f"--out {out}: {err.strerror}. Choose another folder.") from err


@contextmanager
def _store(settings: Settings, *, scratch: bool) -> Iterator[ArtifactStore]:
    """Store of the appliance; for a folder that is no case of it one that is thrown away."""
    if not scratch:
        yield ArtifactStore(settings.artifacts_dir)
        return
    with tempfile.TemporaryDirectory(prefix="tandem-picture-") as folder:
        yield ArtifactStore(Path(folder))


def _row(settings: Settings, subject: str) -> CaseRow | None:
    """Row of a case that has a result; None for a folder of findings."""
    named = id_named(subject, "case")
    if named is None:
        if not (Path(subject) / "findings.json").is_file():
            raise SettingsError(
                f"{subject!r} is no case and no folder with findings.json. `tandem status` lists "
                "ids such as case-1; `tandem process --out` writes such a folder."
            )
        return None
    if (Path(subject) / "findings.json").is_file():
        raise SettingsError(
            f"{subject!r} is a case of the appliance, and a folder here too. Name the folder as "
            f"./{subject}, or call the command from another place."
        )
    require_ledger(settings)
    reader = LedgerReader(settings.ledger_url)
    try:
        with reader.reading() as tx:
            row = tx.case(named)
    finally:
        reader.close()
    if row is None:
        raise SettingsError(f"no {subject}. `tandem status` lists ids such as case-1.")
    if not row.findings_key:
        raise SettingsError(
            f"{subject} is {row.state}: it has no result yet. `tandem status` tells what it waits "
            "for."
        )
    return row


def _findings_folder(settings: Settings, row: CaseRow) -> Path:
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(row.findings_key))
    if not is_unchecked(folder) and not is_as_written(folder):
        raise SettingsError(
            f"{row.subject}: its stored result is not what was written. Have it made again first: "
            f"tandem rerun {row.subject}"
        )
    return folder


def _pictured(folder: Path, name: str) -> PicturedCase:
    """Case of a folder of findings; without a name its slides' bytes give one."""
    try:
        findings = load_findings(folder)
    except (ValueError, KeyError, OSError) as err:
        raise SettingsError(f"{folder}: no findings that can be read ({err}).") from err
    if not name:
        pair = findings.he.fingerprint + findings.ihc.fingerprint
        name = f"pair-{hashlib.sha256(pair.encode()).hexdigest()[:12]}"
    return PicturedCase(name=name, findings=findings, assay=find_assay(findings.assay))
