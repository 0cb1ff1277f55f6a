"""Folders of images for evaluation: the layouts that are understood, and each image's truth.

::

    DIR/CLASS/[PATIENT/]IMAGE          class folders (tumor, intensity)
    DIR/NAME.png + DIR/NAME_mask.png   images with masks (all tasks)
    DIR/images/NAME + DIR/masks/NAME   the same in two folders
    DIR/labels.csv                     columns file, label and, if wanted, patient, mpp, split
    DIR/…_2+_….png                     the case's score in the file's name (intensity)

``DIR/mpp``, ``mpp.txt`` or ``mpp.json`` may hold the images' resolution in µm per px.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from models.datasets.rules import IGNORE
from models.errors import DataSetError
from models.slide_level.tables import check_patients, rows_of
from models.spec import CLASSES, Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MPP_RANGE = (0.05, 5.0)
WORDS: dict[Task, tuple[tuple[str, ...], ...]] = {
    Task.TUMOR: (
        ("other", "normal", "non-tumor", "non-tumour", "nontumor", "no-tumor", "notumor",
         "not-tumor", "benign", "negative", "non-cancer", "0"),
        ("tumor", "tumour", "cancer", "malignant", "positive", "1"),
    ),
    Task.INTENSITY: (
        ("none", "no", "no-stain", "negative", "n", "0"),
        ("faint", "f", "1+", "1"),
        ("weak", "w", "moderate", "2+", "2"),
        ("strong", "s", "3+", "3"),
    ),
    Task.SEGMENTATION: (),
}  # fmt: skip
"""Names of each class, in the order of `CLASSES`; case, blanks and underscores do not matter."""
_SKIPPED = -1
"""Label of an image that is to be left out."""
_MASK_FOLDERS = ("masks", "mask", "labels", "annotations")
_MASK_NAME = re.compile(r"^(?P<stem>.+)[_-](mask|masks|label|labels|seg|gt)$", re.IGNORECASE)
_SCORE = re.compile(r"(?:^|[_ -])(0|1\+|2\+|3\+)(?=[_. -]|$)")
_STAIN = re.compile(r"(?:^|[_. -])(HE|H&E|HER2|IHC)(?=[_. -]|$)", re.IGNORECASE)
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""First bytes of text as Windows writes it."""
_COLUMNS = {
    "file": ("file", "filename", "image", "name", "path"),
    "label": ("label", "class", "score"),
    "patient": ("patient", "case", "patient_id"),
    "mpp": ("mpp",),
    "split": ("split",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledImage:
    """An image with its truth: the class of the whole image, or a mask, or both.

    `name` is its path inside the folder; `mpp` in µm per px, None if unknown. Where the layout
    tells no patient, `patient` is the image's own path and `is_patient_told` false.
    `split` is what a table's column says, None without the column.
    """

    path: Path
    name: str
    patient: str
    is_patient_told: bool = False
    label: int | None = None
    mask: Path | None = None
    mpp: float | None = None
    split: str | None = None


def find_images(
    folder: Path, task: Task, *, mpp: float | None = None, names: Mapping[str, str] | None = None
) -> list[LabeledImage]:
    """Return every image of `folder` with its truth, sorted by name; `mpp` precedes files.

    `names` translates names of folders and labels, and precedes `WORDS`; images whose name means
    `IGNORE` are left out.

    Raises
    ------
    DataSetError
        If the layout is none of those above, a class or a mask is missing, a name is unknown, or a
        resolution is implausible. The message names the file and the remedy.
    """
    if not folder.is_dir():
        raise DataSetError(f"{folder}: no such folder.")
    table = folder / "labels.csv"
    if table.is_file():
        images = _from_table(table, task, names)
    elif task is not Task.SEGMENTATION and _class_folders(folder, task, names):
        images = _from_class_folders(folder, task, names)
    elif pair := _two_folders(folder):
        images = _of_two_folders(folder, *pair)
    else:
        images = _flat(folder, task, names)
    images = [image for image in images if image.label != _SKIPPED]
    if not images:
        raise DataSetError(f"{folder}: every image is of a class that is to be ignored.")
    common = _checked(mpp, "--mpp") or _stored_mpp(folder)
    return [
        image if mpp is None and image.mpp is not None else replace(image, mpp=common)
        for image in images
    ]


def class_number(word: str, task: Task) -> int | None:
    """Return the number of the class that `word` names, None if it names none."""
    plain = re.sub(r"[\s_]+", "-", word.strip().lower())
    plain = re.sub(r"^(score|her2|class|grade)-", "", plain)
    return next((k for k, words in enumerate(WORDS[task]) if plain in words), None)


def _meant(word: str, task: Task, names: Mapping[str, str] | None) -> int | None:
    """Return what `class_number` does, by the caller's names first; `_SKIPPED` if it is ignored."""
    own = {name.casefold(): meant for name, meant in (names or {}).items()}
    meant = own.get(word.strip().casefold())
    if meant is not None and meant.casefold() == IGNORE:
        return _SKIPPED
    return class_number(word if meant is None else meant, task)


def _images(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _class_folders(
    folder: Path, task: Task, names: Mapping[str, str] | None
) -> dict[Path, int | None]:
    """Subfolders with images and their classes; empty if no subfolder has a class's name."""
    folders = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    subfolders = sorted(p for p in folders if _images(p))
    classes = {p: _meant(p.name, task, names) for p in subfolders}
    return classes if any(k is not None for k in classes.values()) else {}


def _from_class_folders(
    folder: Path, task: Task, names: Mapping[str, str] | None
) -> list[LabeledImage]:
    images = []
    for subfolder, label in _class_folders(folder, task, names).items():
        if label is None:
            raise DataSetError(f"{subfolder}: unknown class folder. {_classes(task)}")
        for path in _images(subfolder):
            inside = path.relative_to(subfolder).parts
            # A folder below the class is a patient; without one each image is its own patient.
            told = len(inside) > 1
            images.append(
                LabeledImage(
                    path=path,
                    name=str(path.relative_to(folder)),
                    patient=inside[0] if told else f"{subfolder.name}/{path.stem}",
                    is_patient_told=told,
                    label=label,
                )
            )
    return images


def _two_folders(folder: Path) -> tuple[Path, Path] | None:
    images = folder / "images"
    masks = next((folder / n for n in _MASK_FOLDERS if (folder / n).is_dir()), None)
    return (images, masks) if images.is_dir() and masks is not None else None


def _flat(folder: Path, task: Task, names: Mapping[str, str] | None) -> list[LabeledImage]:
    found = _images(folder)
    masks = [p for p in found if _MASK_NAME.match(p.stem)]
    images = [p for p in found if p not in masks]
    if masks:
        return _with_masks(folder, _keyed(folder, images), _keyed(folder, masks))
    if task is Task.INTENSITY:
        # Both fields of a pair lie in one folder: only the IHC fields have a stain intensity.
        images = [p for p in images if not _is_he(p)]
        scores = {p: _score_of(p, folder, names) for p in images}
        unknown = [p for p, score in scores.items() if score is None]
        if images and not unknown:
            return [
                LabeledImage(
                    path=p,
                    name=str(p.relative_to(folder)),
                    patient=p.relative_to(folder).as_posix(),
                    label=scores[p],
                )
                for p in images
            ]
        if images and len(unknown) < len(images):
            raise DataSetError(f"{unknown[0]}: no score (0, 1+, 2+, 3+) in the file's name.")
    raise DataSetError(
        f"{folder}: no layout that the {task} task understands. Use {_layouts(task)}."
    )


def _of_two_folders(root: Path, images: Path, masks: Path) -> list[LabeledImage]:
    return _with_masks(root, _keyed(images, _images(images)), _keyed(masks, _images(masks)))


def _keyed(folder: Path, files: Iterable[Path]) -> list[tuple[PurePosixPath, Path]]:
    """Files with their paths below `folder` without suffix and, of a mask, without ``_mask``."""
    found = []
    for path in files:
        match = _MASK_NAME.match(path.stem)
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        found.append((inside.with_name(match["stem"] if match else path.stem), path))
    return found


def _with_masks(
    root: Path,
    images: list[tuple[PurePosixPath, Path]],
    masks: list[tuple[PurePosixPath, Path]],
) -> list[LabeledImage]:
    """Images with the masks of the same key. One of no folder is its own patient by its name."""
    by_key: dict[PurePosixPath, Path] = {}
    for key, mask in masks:
        if (other := by_key.setdefault(key, mask)) != mask:
            raise DataSetError(f"{mask}: {other.name} is a mask of the same image. Leave one.")
    found = []
    for key, path in images:
        mask_of = by_key.pop(key, None)
        if mask_of is None:
            raise DataSetError(f"{path}: no mask. It would be called {key}_mask.png.")
        inside = path.relative_to(root)
        patient = path.stem if len(key.parts) == 1 else inside.with_suffix("").as_posix()
        found.append(LabeledImage(path=path, name=str(inside), patient=patient, mask=mask_of))
    if by_key:
        raise DataSetError(f"{next(iter(by_key.values()))}: a mask without its image.")
    return found


def _from_table(table: Path, task: Task, names: Mapping[str, str] | None) -> list[LabeledImage]:
    folder = table.parent
    rows = rows_of(table, [name for known in _COLUMNS.values() for name in known], any_case=True)
    masked: list[LabeledImage] = []
    found = _images(folder)
    if pair := _two_folders(folder):
        masked = _of_two_folders(folder, *pair)
    elif masks := [p for p in found if _MASK_NAME.match(p.stem)]:
        others = [p for p in found if p not in masks]
        masked = _with_masks(folder, _keyed(folder, others), _keyed(folder, masks))
    mask_of = {image.path: image.mask for image in masked}
    images = []
    for raw in rows:
        row = {key.lower(): value for key, value in raw.items()}
        cells = {
            key: next((row[n] for n in known if row.get(n)), "") for key, known in _COLUMNS.items()
        }
        where = f"{table}, line {raw.line}"
        if not cells["file"]:
            raise DataSetError(f"{where}: no file. Columns are file, label, patient, mpp.")
        path = folder / cells["file"]
        if not path.is_file():
            raise DataSetError(f"{where}: there is no {cells['file']} in the folder.")
        label = _meant(cells["label"], task, names) if cells["label"] else None
        mask = mask_of.get(path)
        if label is None and mask is None:
            raise DataSetError(f"{where}: unknown label {cells['label']!r}. {_classes(task)}")
        images.append(
            LabeledImage(
                path=path,
                name=cells["file"],
                patient=cells["patient"] or Path(cells["file"]).as_posix(),
                is_patient_told=bool(cells["patient"]),
                label=label,
                mask=mask,
                mpp=_checked(_number(cells["mpp"], where), where),
                split=cells["split"] if "split" in row else None,
            )
        )
    check_patients((image.patient for image in images if image.is_patient_told), str(table))
    if not images:
        raise DataSetError(f"{table}: no lines. Columns are file, label, patient, mpp.")
    _check_once(images, table)
    return images


def _check_once(images: Iterable[LabeledImage], table: Path) -> None:
    """Check that no image is listed twice: it would count twice, maybe under two patients.

    Raises
    ------
    DataSetError
        If one is.
    """
    seen: set[Path] = set()
    for image in images:
        if (real := image.path.resolve()) in seen:
            raise DataSetError(f"{table}: {image.name} is listed twice. Leave one line.")
        seen.add(real)


def _is_he(path: Path) -> bool:
    stains = [s.upper() for s in _STAIN.findall(path.stem)]
    return bool(stains) and stains[-1] in ("HE", "H&E")


def _score_of(path: Path, root: Path, names: Mapping[str, str] | None) -> int | None:
    """Return the score in the file's name, else in the name of a folder between it and `root`.

    A 0 beside another number may be a place: it counts where no score that is written with + is
    there.

    Raises
    ------
    DataSetError
        If a name has several scores, or a folder another one than a 0 that stands for itself.
    """
    is_0, alone = False, ""
    for part in (path.stem, *reversed(path.relative_to(root).parts[:-1])):
        scores = set(_SCORE.findall(part))
        has_0 = "0" in scores
        scores.discard("0")
        if alone and has_0 and len(scores) != 1:  # a 0 of its own in a set that has it
            continue
        if alone and scores:
            raise DataSetError(
                f"{path}: the score 0 in {alone!r}, another one in {part!r}. Rename it, or list "
                "the images in labels.csv."
            )
        is_0 = is_0 or has_0
        alone = alone or (part if has_0 and not scores and _has_lone_0(part) else "")
        if len(scores) > 1:
            raise DataSetError(
                f"{path}: several scores ({', '.join(sorted(scores))}) in {part!r}. Rename it, or "
                "list the images in labels.csv."
            )
        if scores:
            return _meant(scores.pop(), Task.INTENSITY, names)
    return _meant("0", Task.INTENSITY, names) if is_0 else None


def _has_lone_0(name: str) -> bool:
    """Return whether a 0 of a name stands beside no other number, as 0 and 512 of a place do."""
    words = re.split(r"[_. -]", name)
    beside = zip(["", *words], words, [*words[1:], ""], strict=False)
    return any(
        word == "0" and not before.isdecimal() and not after[:1].isdecimal()
        for before, word, after in beside
    )


def _stored_mpp(folder: Path) -> float | None:
    for name in ("mpp", "mpp.txt", "mpp.json"):
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        text = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig", "replace").strip()
        try:
            held = json.loads(text)
            value = float(held["mpp"] if isinstance(held, dict) else held)
        except (ValueError, KeyError, TypeError) as err:
            raise DataSetError(f"{path}: holds {text[:40]!r}, not a number of µm per px.") from err
        return _checked(value, str(path))
    return None


def _number(text: str, where: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as err:
        raise DataSetError(f"{where}: {text!r} is not a number of µm per px.") from err


def _checked(mpp: float | None, where: str) -> float | None:
    if mpp is not None and not MPP_RANGE[0] <= mpp <= MPP_RANGE[1]:
        raise DataSetError(
            f"{where}: {mpp:g} µm per px is implausible; a 40x scan has about 0.25, 20x 0.5."
        )
    return mpp


def _classes(task: Task) -> str:
    names: Iterable[str] = (
        f"{name} ({', '.join(words)})"
        for name, words in zip(CLASSES[task], WORDS[task], strict=False)
    )
    return f"Classes are: {'; '.join(names)}."


def _layouts(task: Task) -> str:
    masks = "images with masks (NAME.png + NAME_mask.png, or images/ + masks/)"
    if task is Task.SEGMENTATION:
        return masks
    table = f"class folders ({', '.join(CLASSES[task])}), labels.csv (file,label), {masks}"
    return table + (", or file names with the score (…_2+_….png)" * (task is Task.INTENSITY))
