"""Options of the commands that train and evaluate slide-level systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from appliance.cli.bars import ProgressBars
from models.slide_level.system import BAGS, PATCHES, SYSTEMS, Say, System, system
from models.slide_level.tasks import SlideTask

if TYPE_CHECKING:
    from models.slide_level.cohort import CohortSlide
    from models.synthesis.slide_cohort import SlideDraw

CohortOption = Annotated[
    Path | None,
    typer.Option(
        "--cohort",
        help="Folder with cohort.csv: columns slide, patient, overview, and her2 (0, 1+, 2+, 3+), "
        "ish, er, pr (+, -) as far as they are known (docs/readers.md); bag for systems that read "
        "tiles (docs/mil.md); patches_low, patches_moderate, patches_high for those that count "
        "patches.",
    ),
]
SyntheticOption = Annotated[
    int, typer.Option("--synthetic", min=0, help="Instead of --cohort: draw so many patients.")
]
LossOption = Annotated[
    Literal["cross-entropy", "class-weights", "focal"] | None,
    typer.Option("--loss", help="Loss of networks on slides or patches. Default: cross-entropy."),
]
AugmentOption = Annotated[
    bool, typer.Option("--augment/--no-augment", help="Flips, rotations, affine changes.")
]
BeginOption = Annotated[
    bool,
    typer.Option(
        "--begin/--from-scratch", help="Begin with the weights that ship, where they fit."
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Most epochs of networks on slides or patches."),
]
_ASKED = {
    "loss": "--loss",
    "epochs": "--epochs",
    "augment": "--no-augment",
    "begin": "--from-scratch",
}


def systems_help() -> str:
    """Return the names of all systems with their words, for help texts."""
    return "; ".join(f"{name}: {listed.words}" for name, listed in SYSTEMS.items())


def chosen_system(
    name: str, loss: str | None, augment: bool, begin: bool, epochs: int | None
) -> System:
    """Return a system with the recipe that the options ask for.

    Of one that has no such recipe a line says which options change nothing.

    Raises
    ------
    typer.BadParameter
        If the name is unknown.
    """
    if name not in SYSTEMS:
        raise typer.BadParameter(f"no system {name!r}; {systems_help()}", param_hint="SYSTEM")
    wanted = {
        "loss": loss,
        "epochs": epochs,
        "augment": None if augment else False,
        "begin": None if begin else False,
    }
    numbers = {key: value for key, value in wanted.items() if value is not None}
    found = system(name)
    if not numbers:
        return found
    match SYSTEMS[name].module:
        case "models.slide_level.low_resolution":
            from models.slide_level import low_resolution

            return low_resolution.changed(cast(low_resolution.LowResolution, found), **numbers)
        case "models.patch_counts.system":
            from models.patch_counts import system as counting

            return counting.changed(cast(counting.PatchCounts, found), **numbers)
    given = ", ".join(_ASKED[key] for key in numbers)
    typer.echo(f"{name}: {given} is not for it and changes nothing.", err=True)
    return found


def usable_systems(tasks: Sequence[SlideTask], synthetic: int) -> list[str]:
    """Return the systems that answer all of some tasks, and have what they read on drawn slides.

    Patch counts answer HER2 alone; slides of high resolution are not drawn.
    """
    receptors = {SlideTask.ER, SlideTask.PR} & set(tasks)
    return [
        name
        for name, listed in SYSTEMS.items()
        if listed.approach != PATCHES or not (receptors or (synthetic and "-high-" in name))
    ]


def fed_systems(
    chosen: Mapping[str, System], slides: Sequence[CohortSlide], say: Say
) -> dict[str, System]:
    """Return the systems whose files each of some slides names; `say` is told of the others."""
    fed = {}
    for name, one in chosen.items():
        column, lacking = "", 0
        if SYSTEMS[name].approach == BAGS:
            column, lacking = "bag", sum(slide.bag is None for slide in slides)
        elif SYSTEMS[name].approach == PATCHES:
            read = name.split("-")[1]
            column = f"patches_{read}"
            lacking = sum(read not in dict(slide.patches) for slide in slides)
        if lacking:
            say(f"{name} is left out: {lacking} of {len(slides)} slides have no {column}.")
        else:
            fed[name] = one
    return fed


def slides_to_use(
    cohort: Path | None,
    synthetic: int,
    seed: int,
    folder: Path,
    tasks: Sequence[SlideTask],
    systems: Sequence[str],
    bars: ProgressBars,
    *,
    shifted: bool = False,
) -> tuple[list[CohortSlide], list[SlideDraw]]:
    """Return the slides of a cohort, or draw them below `folder`; with the draws, if drawn.

    Drawn slides also get bags or patches, if one of the systems learns from these.

    Raises
    ------
    models.errors.DataSetError, models.errors.SynthesisError
        If the cohort cannot be read, or the folder holds another one.
    """
    if cohort is not None:
        from models.slide_level.cohort import read_cohort

        return read_cohort(cohort), []
    from models.synthesis.slide_cohort import draw_slides
    from models.synthesis.slide_files import write_slides
    from models.synthesis.slide_overview import HER2, Stain

    shown: dict[SlideTask, Stain] = {SlideTask.ER: "ER", SlideTask.PR: "PR"}
    stains = sorted({shown.get(task, HER2) for task in tasks})
    draws = draw_slides(seed, synthetic, shifted=shifted)
    slides = write_slides(folder, draws, bars, stains=stains)
    if any(SYSTEMS[name].approach == BAGS for name in systems):
        from models.synthesis.bag_files import drawn_bags

        slides = drawn_bags(folder, draws, seed, bars, shifted=shifted)
    counted = [name for name in systems if SYSTEMS[name].approach == PATCHES]
    if counted:
        from models.datasets.drawn_patches import drawn_patches
        from models.slide_level.cohort import PATCHES as RESOLUTIONS

        wanted = [one for one in RESOLUTIONS if any(f"-{one}-" in name for name in counted)]
        slides = drawn_patches(folder, draws, wanted, bars)
    return slides, draws
