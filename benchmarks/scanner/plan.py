"""Plan of a simulated day: which slides come, in which order, with which faults. No file yet."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.scanner.profiles import PROFILES, Profile, SlideLabel

Expected = Literal["read", "one-of", "set-aside", "gone"]
"""End of a slide. ``one-of``: of all scans of this slide one is read, the others are superseded.
``gone``: the file is not there any more, and nothing waits for it."""

FAULTS: Mapping[str, str] = {
    "stalls": "pauses while the file grows",
    "truncated": "the file stays cut for a long time, then the rest comes",
    "renames": "a temporary name first, or a new name while the file grows",
    "deletions": "the slide is deleted while it grows, or soon after",
    "duplicates": "the same bytes again in a second folder",
    "rescans": "the slide is scanned again, under a new name or over the first",
    "series": "the files of one slide in any order, with pauses",
    "names": "names that are no UTF-8, decomposed, long, upper-case, without accession …",
    "zero": "a file of zero bytes",
    "garbage": "random bytes",
    "cut": "the rest never comes",
    "special": "pipes, sockets, links that lead nowhere, a folder named like a slide",
    "dustbins": "slides in the dust bins of file servers, and other files of servers",
    "conflicts": "barcode and name, or two parts of the name, tell of different slides",
}
"""Faults by name, with what they do."""
MANY_FILES_ONLY = frozenset({"series"})
ANY_REASON: tuple[str, ...] = ()
"""No certain reason: any that names the slide's trouble."""

NAMES: Mapping[str, tuple[Expected, tuple[str, ...]]] = {
    "not-utf-8": ("read", ANY_REASON),
    "decomposed": ("read", ANY_REASON),
    "spaces": ("read", ANY_REASON),
    "long": ("read", ANY_REASON),
    "upper-case": ("read", ANY_REASON),
    "signs": ("read", ANY_REASON),
    "no-accession": ("set-aside", ("no-accession",)),
    "no-block": ("set-aside", ("no-block",)),
    "no-stain": ("set-aside", ("unknown-stain",)),
}
"""Kinds of odd names, with their outcome."""
CONFLICTS_OF_NAMES = ("two-blocks", "two-stains", "two-accessions")
CONFLICTS = ("accession", "block", "stain", *CONFLICTS_OF_NAMES)
"""Kinds of planted conflicts: a part in which the barcode differs, or two parts in the name."""
NAMINGS: Mapping[str, str] = {
    "underscores": "{accession}_{block}_{stain}",
    "spaces": "{accession} {block} {stain}",
    "points": "{accession}.{block}.{stain}",
    "time": "{accession};{block};2_{stain} - 2026-11-20 10.11.12",
    "level": "{accession}_L2_{block}_{stain}",
    "lower": "{lower_accession}_{lower_block}_{lower_stain}",
    "stain-first": "{stain}_{accession}-{block}_001",
}
"""Conventions of laboratories for the names of slides."""
LONGEST_NAME_BYTES = 255
DAY_SLIDES = 20
"""Slides within which the second slide of a block follows the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A slide that the scanner will write. `variant` is the fault's kind, ``""`` without one.

    `printed` is what its barcode says: that of another slide where a conflict is planted.
    """

    number: int
    profile: str
    label: SlideLabel
    score: str
    stem: str
    suffix: str
    folder: str
    fault: str
    variant: str
    barcode_read: bool
    printed: SlideLabel
    expected: Expected
    reasons: tuple[str, ...]


def plan_scans(
    profiles: Sequence[str],
    slides: int,
    faults: Sequence[str],
    fault_share: float,
    scores: Sequence[str],
    dice: random.Random,
    target: str = "HER2",
    namings: Sequence[str] = (),
) -> list[Scan]:
    """Return the slides in the order of scanning: both of each block, H&E before `target`.

    `namings` are the conventions of names, of `NAMINGS`, in turn; without them the scanners'.
    """
    labels: list[tuple[float, SlideLabel, str, str]] = []
    first = dice.randrange(10_000, 60_000)
    for number in range(slides):
        pair, second = divmod(number, 2)
        label = SlideLabel(
            accession=f"S26-{first + pair:05d}",
            block=f"A{1 + pair % 3}",
            stain=target if second else "HE",
        )
        place = pair + (dice.uniform(0.1, DAY_SLIDES / 2) if second else 0.0)
        labels.append((place, label, profiles[pair % len(profiles)], scores[pair % len(scores)]))
    deck: list[str] = []
    scans = []
    for number, (_, label, profile, score) in enumerate(sorted(labels, key=lambda each: each[0])):
        fault = ""
        if faults and dice.random() < fault_share:
            deck = deck or dice.sample(list(faults), len(faults))
            fault = deck.pop()
            if fault in MANY_FILES_ONLY and not PROFILES[profile].many_files:
                fault = "stalls"
        folder = profile if len(profiles) > 1 else ""
        naming = namings[number % len(namings)] if namings else ""
        scans.append(_scan(number, profile, label, score, folder, fault, naming, dice))
    return scans


def _scan(
    number: int,
    profile_name: str,
    label: SlideLabel,
    score: str,
    folder: str,
    fault: str,
    naming: str,
    dice: random.Random,
) -> Scan:
    profile, printed = PROFILES[profile_name], label
    expected: Expected = "read"
    reasons = ANY_REASON
    stem = named(naming, label) if naming else profile.stem(label)
    variant, suffix, barcode_read = "", profile.suffix, True
    if fault in ("zero", "garbage", "cut"):
        expected = "set-aside"
    elif fault in ("duplicates", "rescans"):
        expected = "one-of"
        variant = dice.choice(("new-name", "over-the-first")) if fault == "rescans" else ""
        expected = "read" if variant == "over-the-first" else "one-of"
    elif fault == "deletions":
        expected, variant = "gone", dice.choice(("growing", "whole"))
    elif fault == "renames":
        kinds = ("temporary",) if profile.many_files else ("temporary", "while-growing")
        variant = dice.choice(kinds)
    elif fault == "names":
        variant = dice.choice(_names_of(profile))
        expected, reasons = NAMES[variant]
        stem, suffix = odd_name(variant, stem, suffix, label, number)
        barcode_read = expected == "read"
    elif fault == "conflicts":
        conflicts = CONFLICTS if profile.has_barcode else CONFLICTS_OF_NAMES
        variant, expected = dice.choice(conflicts), "set-aside"
        reasons = ("identity-conflict",)
        stem, printed = conflicting(variant, stem, label)
    return Scan(
        number=number,
        profile=profile_name,
        label=label,
        score=score,
        stem=stem,
        suffix=suffix,
        folder=folder,
        fault=fault,
        variant=variant,
        barcode_read=barcode_read,
        printed=printed,
        expected=expected,
        reasons=reasons,
    )


def named(naming: str, label: SlideLabel) -> str:
    """Return the name of a slide, without its suffix, by a convention of `NAMINGS`."""
    parts = {"accession": label.accession, "block": label.block, "stain": label.stain}
    lower = {f"lower_{name}": text.lower() for name, text in parts.items()}
    return NAMINGS[naming].format(**parts, **lower)


def conflicting(kind: str, stem: str, label: SlideLabel) -> tuple[str, SlideLabel]:
    """Return name and barcode of a slide that contradict each other, by a kind of `CONFLICTS`."""
    other = "HE" if label.stain != "HE" else "HER2"
    match kind:
        case "accession":
            number = (int(label.accession[-5:]) + 50_000) % 100_000
            return stem, replace(label, accession=f"{label.accession[:-5]}{number:05d}")
        case "block":
            return stem, replace(label, block=f"B{label.block[1:]}")
        case "stain":
            return stem, replace(label, stain=other)
        case "two-blocks":
            return f"{label.accession}_{label.block}_B7_{label.stain}", label
        case "two-stains":
            return f"{label.accession}_{label.block}_{label.stain}_{other}", label
        case "two-accessions":
            return f"{label.accession}_S25-00017_{label.block}_{label.stain}", label
    raise ValueError(kind)


def _names_of(profile: Profile) -> list[str]:
    """Return the kinds of odd names that a profile can have."""
    if profile.suffix == ".dcm":  # the header names block and stain
        return [kind for kind in NAMES if kind not in ("no-block", "no-stain")]
    if profile.suffix == ".mrxs":  # OpenSlide knows the suffix in lower case only
        return [kind for kind in NAMES if kind != "upper-case"]
    return list(NAMES)


def odd_name(kind: str, stem: str, suffix: str, label: SlideLabel, number: int) -> tuple[str, str]:
    """Return stem and suffix of an odd name of a kind of `NAMES`."""
    match kind:
        case "not-utf-8":
            return f"{stem}_M\udcfcller", suffix
        case "decomposed":
            return f"{stem}_Mu\N{COMBINING DIAERESIS}ller", suffix
        case "spaces":
            return f"{label.accession} {label.block}  {label.stain} - 10.11.12 ", suffix
        case "long":
            return stem + "_" + "x" * (LONGEST_NAME_BYTES - len(stem) - len(suffix) - 1), suffix
        case "upper-case":
            return stem, suffix.upper()
        case "signs":
            return f"{stem}_'\"$(x)&%41#[1]", suffix
        case "no-accession":
            return f"scan {number:04d} {label.stain}", suffix
        case "no-block":
            return f"{label.accession}_{label.stain}", suffix
        case "no-stain":
            return f"{label.accession}_{label.block}", suffix
    raise ValueError(kind)
