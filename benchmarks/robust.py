"""Answers before and after changes of the picture: ``python benchmarks/robust.py [--tiles N]``.

Compression, blur, color, resolution and noise (`benchmarks.changes`), each alone, on the real
pictures of `shared/real` and on drawn tumor tiles that trained nothing. Judged: the class of each
tile and of each real picture by C (H&E), L and M (HER2), and whether the case would be given to
review. Strengths were chosen before anything was measured. The real pictures train nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.assays.slide_reasons import least_picture_percent
from appliance.domain import Stain
from appliance.evaluation.labeled_images import tiles_with_tissue
from appliance.findings.classes import count_classes
from appliance.readers.inference import Network
from appliance.settings.scoring import Review
from appliance.slides.appearance import Appearance
from appliance.slides.glass import calibrate, white_gain
from benchmarks.changes import Change, Pixels, all_changes
from benchmarks.picture import SLOTS, seen, written
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED
from models.datasets.images import read_rgb
from models.evaluation.truth_tiles import at_tile_mpp, cut, glass_of_field
from models.spec import TILE_MPP, ModelSpec, Task, reference_folder
from models.synthesis.tile_pairs import synthesize_tile_pair

PAIRS_MPP, REGIONS_MPP = 0.46, 0.25
"""Resolutions in µm per px of the fields of BCI and of the regions of BCSS (nominal)."""
BATCH = 8
PATCH_PX = 64
"""Edge of the glass that is shown beside a drawn tile."""
TASKS = {"HE": (Task.TUMOR,), "HER2": (Task.INTENSITY, Task.SEGMENTATION)}
LETTERS = {Task.TUMOR: "C", Task.INTENSITY: "L", Task.SEGMENTATION: "M"}
Glass = tuple[int, int, int]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Picture, uint8 RGB (rows, columns, 3), at `mpp` µm per px; `stain` is a key of `TASKS`.

    `glass` is the color of the slide's glass; None for a real field, whose glass is looked for in
    it. `read` are the numbers of its tiles that hold tissue.
    """

    stain: str
    pixels: Pixels
    mpp: float
    glass: Glass | None
    read: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answers of a network on a case: `classes` int (n,) by tile, and that of the whole case.

    `unusual` bool (n,) says which tiles look unlike the network's training; `doubted` whether the
    whole picture would be held or given to review.
    """

    classes: NDArray[np.int64]
    whole: int
    unusual: Marks
    doubted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cases of a change and a network; `unit` is ``tile`` or ``picture``.

    `changed` had another class before. `flagged` of them are tiles that look unusual, or lie in a
    picture that is held or given to review. `all_flagged` also counts those that did not change.
    """

    change: str
    network: str
    source: str
    unit: str
    cases: int
    changed: int
    flagged: int
    all_flagged: int

    @property
    def unflagged_percent(self) -> float:
        """Share (0-100) of all cases that changed and were not flagged."""
        return 100 * (self.changed - self.flagged) / max(1, self.cases)


def main() -> None:
    """Print the table, or the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights-root", type=Path, help="Folder with tumor, intensity and "
                        "segmentation in it; default: the weights that ship.")  # fmt: skip
    parser.add_argument("--tiles", type=int, default=40, help="Drawn tumor tiles.")
    parser.add_argument("--real", type=Path, default=Path("../shared/real"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    networks = {
        task: Network(given.weights_root / task if given.weights_root else reference_folder(task))
        for task in LETTERS
    }
    real, drawn = real_cases(given.real), list(drawn_cases(given.tiles))
    rows = [
        *judged(real, "real", networks, _doubt),
        *judged(drawn, "drawn", networks, lambda *_: False),
    ]
    if given.json:
        print(json.dumps([asdict(row) | {"unflagged_percent": row.unflagged_percent}
                          for row in rows], indent=2))  # fmt: skip
        return
    print(f"{'change':<24}{'network':<9}{'source':<8}{'unit':<9}{'cases':>6}{'changed':>9}"
          f"{'flagged':>9}{'changed, not flagged':>22}{'all flagged':>13}")  # fmt: skip
    for row in rows:
        print(f"{row.change:<24}{row.network:<9}{row.source:<8}{row.unit:<9}{row.cases:>6}"
              f"{row.changed:>9}{row.flagged:>9}{row.unflagged_percent:>20.1f} %"
              f"{row.all_flagged:>13}")  # fmt: skip


def real_cases(folder: Path) -> list[Case]:
    """Read the fields of BCI, H&E and HER2, and the H&E regions of BCSS."""
    found = []
    for path in sorted(folder.glob("her2_pairs/*.png")):
        stain = "HE" if path.stem.endswith("_he") else "HER2"
        found.append(_case(stain, read_rgb(path), PAIRS_MPP, None))
    for path in sorted(folder.glob("he_tumor_masks/*.jpg")):
        if "mask" not in path.stem:
            found.append(_case("HE", read_rgb(path), REGIONS_MPP, None))
    return found


def drawn_cases(count: int) -> Iterator[Case]:
    """Draw the first `count` rough tumor tiles of the held-out seeds, in both stains (synthetic).

    They are not calibrated yet, as a scanner would give them.
    """
    seed, found = FIRST_HELD_OUT_SEED, 0
    while found < count:
        pair = synthesize_tile_pair(seed, rough_share=1.0)
        seed += 1
        if pair.tumor:
            found += 1
            yield _case("HE", pair.he, TILE_MPP, pair.he_white)
            yield _case("HER2", pair.ihc, TILE_MPP, pair.white)


def _case(stain: str, pixels: Pixels, mpp: float, glass: Glass | None) -> Case:
    read = tiles_with_tissue(_tiles(pixels, mpp, glass or glass_of_field(pixels)))
    return Case(stain=stain, pixels=pixels, mpp=mpp, glass=glass, read=read)


def _tiles(pixels: Pixels, mpp: float, glass: Glass) -> Pixels:
    """Cut a picture as `tandem evaluate tiles` does, (n, 512, 512, 3)."""
    return calibrate(cut(at_tile_mpp(pixels, mpp, labels=False)), white_gain(glass))


def changed_tiles(case: Case, change: Change, seed: int) -> tuple[Pixels, Pixels, float]:
    """Return the calibrated tiles of a changed case, its changed picture and that one's µm/px.

    The glass of a drawn tile is changed in the same way: its slide has some that the tile lacks.
    """
    pixels, mpp = change.changing(case.pixels, case.mpp, np.random.default_rng(seed))
    glass = _changed_glass(case, change, seed) if case.glass else glass_of_field(pixels)
    return _tiles(pixels, mpp, glass)[case.read], pixels, mpp


def _changed_glass(case: Case, change: Change, seed: int) -> Glass:
    patch = np.full((PATCH_PX, PATCH_PX, 3), case.glass, dtype=np.uint8)
    patch, _ = change.changing(patch, case.mpp, np.random.default_rng(seed))
    red, green, blue = (int(v) for v in np.median(patch.reshape(-1, 3), axis=0))
    return red, green, blue


Doubting = Callable[[str, Pixels, float], bool]


def judged(
    cases: Sequence[Case], source: str, networks: dict[Task, Network], doubted: Doubting
) -> Iterator[Row]:
    """Ask the networks about all cases and changes; yield a row each for tiles and for pictures.

    `doubted` says of a picture, its stain and µm/px whether it would be held or given to review.
    A drawn tile is no picture of its own: it has rows for tiles only.
    """
    before: dict[tuple[str, Task], list[Answer]] = {}
    for change in all_changes():
        for stain, tasks in TASKS.items():
            own = [case for case in cases if case.stain == stain]
            specs = [networks[task].spec for task in tasks]
            shown = []
            for seed, case in enumerate(own):
                tiles, pixels, mpp = changed_tiles(case, change, seed)
                shown.append((tiles, _unusual(tiles, specs), doubted(stain, pixels, mpp)))
            for task in tasks:
                answers = [_answer(networks[task], *each) for each in shown]
                known = before.setdefault((stain, task), answers)
                units = {"tile": _by_tile(known, answers)}
                if source == "real":
                    units["picture"] = _by_picture(known, answers)
                for unit, (changed, flagged) in units.items():
                    yield Row(
                        change=change.name,
                        network=LETTERS[task],
                        source=source,
                        unit=unit,
                        cases=len(changed),
                        changed=int(changed.sum()),
                        flagged=int((changed & flagged).sum()),
                        all_flagged=int(flagged.sum()),
                    )


def _answer(network: Network, tiles: Pixels, unusual: Marks, doubted: bool) -> Answer:
    batches = [tiles[k : k + BATCH] for k in range(0, len(tiles), BATCH)]
    if network.spec.task is Task.SEGMENTATION:
        maps = np.concatenate([network.segment(batch) for batch in batches])
        counts = np.array([count_classes(labels) for labels in maps])
        classes, whole = _leading(counts), int(_leading(counts.sum(axis=0)[None])[0])
    else:
        likely = np.concatenate([network.classify(batch) for batch in batches])
        classes, whole = likely.argmax(axis=1), int(likely.mean(axis=0).argmax())
    return Answer(classes=classes, whole=whole, unusual=unusual, doubted=doubted)


def _leading(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class (n,) of most tumor px of counts (n, 5); 0, background, where no px is tumor."""
    leading: NDArray[np.int64] = np.where(
        counts[:, 1:].any(axis=1), 1 + counts[:, 1:].argmax(axis=1), 0
    )
    return leading


def _unusual(tiles: Pixels, specs: Sequence[ModelSpec]) -> Marks:
    return np.array([Appearance().seen([tile], specs).unusual_percent > 0 for tile in tiles])


def _doubt(stain: str, pixels: Pixels, mpp: float) -> bool:
    """Return whether the check of the picture holds a field, or gives its case to review."""
    slot = Stain(stain)
    kinds = SLOTS[slot]
    with tempfile.TemporaryDirectory() as scratch:
        picture, _, _ = seen(written(Path(scratch) / "field.svs", pixels, mpp))
    unsure = picture.match(kinds).percent < least_picture_percent(Review(), slot)
    return picture.contradicts(kinds) or unsure


def _by_tile(before: Sequence[Answer], after: Sequence[Answer]) -> tuple[Marks, Marks]:
    """Mark the tiles that changed their class, and those that are flagged."""
    changed = [a.classes != b.classes for a, b in zip(after, before, strict=True)]
    return np.concatenate(changed), np.concatenate([a.unusual | _in_review(a) for a in after])


def _by_picture(before: Sequence[Answer], after: Sequence[Answer]) -> tuple[Marks, Marks]:
    """Mark the pictures that changed their class, and those that are flagged."""
    changed = np.array([a.whole != b.whole for a, b in zip(after, before, strict=True)])
    return changed, np.array([_in_review(a) for a in after])


def _in_review(answer: Answer) -> bool:
    """Return whether a picture is doubted, or too many of its tiles look unusual."""
    most = Review().max_unusual_tiles_percent
    return answer.doubted or 100 * float(answer.unusual.mean()) > most


if __name__ == "__main__":
    main()
