"""Cohorts of whole slides with slide-level labels, drawn as those of arXiv 2503.22069.

A draw says what a patient's slides show; pictures are drawn from it elsewhere. The truth follows
from the composition by the guideline's rules. The label is what one reader said: it is wrong where
a share is near a limit, mostly between 0 and 1+.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from models.errors import SynthesisError
from models.slide_level.tasks import (
    HER2_SCORES,
    SLIDE_CLASSES,
    Her2,
    SlideLabel,
    SlideTask,
    Status,
    class_of,
)
from models.synthesis.cohort import share_out

PATIENTS = 500
HER2_NUMBERS: dict[str, float] = {"0": 125, "1+": 142, "2+": 118, "3+": 115}
"""Slides per score of the paper's 500 patients (Table 3)."""
ISH_POSITIVE = 22 / 118
"""Share of 2+ with ISH +."""
ER_NUMBERS = {"-": 145.0, "+": 240.0, "": 115.0}
PR_NUMBERS = {"-": 198.0, "+": 189.0, "": 113.0}
"""Negative and positive slides (section 2.1); "": patients without one."""
LIMIT = 0.10
"""A share above it decides: of 3+ cells, else of 2+ and more, else of 1+ and more (ASCO/CAP)."""
RECEPTOR_LIMIT = 1.0
"""Percentage of stained nuclei from which on ER and PR are positive (ASCO/CAP 2020)."""
READER_NOISE = {"3+": 0.85, "2+": 1.15, "1+": 2.4}
"""Deviation of a reader's estimate of each share, on the logit scale.

Two readers of this kind give the same score to about 72 % of the slides. The paper quotes 72.4 % as
"variability"; we read it as agreement.
"""
RECEPTOR_NOISE = 0.5
"""The same of a percentage of nuclei, on the log scale."""
SCANNERS, RUNS = ("neutral", "warm"), (1, 2, 3)
"""Scanners and staining runs of a cohort."""
SHIFTED_SCANNERS, SHIFTED_RUNS = ("crisp",), (4,)
"""The same of a cohort from elsewhere, which no cohort for training has."""
ARTEFACTS = {"pen": 0.06, "fold": 0.08, "bubble": 0.05, "control": 0.4}
"""Probability of each artefact; ``control`` is control tissue beside the section."""
_TRACE = 0.05
"""Percentage of stained nuclei that stands for none at all, where a logarithm is taken."""
Mix = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideDraw:
    """Content of the IHC slides of one patient.

    `mix` is the share of tumor cells of 0, 1+, 2+, 3+; clones of one grade are some `patch_um`
    wide. `tumor` is the tumor's share of the tissue. `er_percent`, `pr_percent` (0-100): stained
    tumor nuclei, None without such a slide. `ish_chance` is the probability that ISH of the tumor
    is positive, given the composition; `amplified` is what came of it. `label` is the reader's
    word, `truth` the guideline's.
    """

    patient: str
    seed: int
    mix: Mix
    patch_um: float
    tumor: float
    er_percent: float | None
    pr_percent: float | None
    ish_chance: float
    amplified: bool
    scanner: str
    run: int
    artefacts: tuple[str, ...]
    truth: SlideLabel
    label: SlideLabel


def draw_slides(seed: int, patients: int = PATIENTS, *, shifted: bool = False) -> list[SlideDraw]:
    """Draw a cohort; its truths have the paper's shares as exactly as whole numbers allow.

    `shifted`: another scanner and another staining run. Equal seeds give equal cohorts.

    Raises
    ------
    SynthesisError
        If there are fewer than ten patients.
    """
    if patients < 10:
        raise SynthesisError(f"{patients} patients: a cohort needs 10 or more")
    rng = np.random.default_rng([seed, 0x51D3])
    scores = share_out(HER2_NUMBERS, patients, rng)
    receptors = [share_out(n, patients, rng) for n in (ER_NUMBERS, PR_NUMBERS)]
    mixes = [_mix(rng, score) for score in scores]
    chances, amplified = _amplified(rng, scores, mixes)
    draws = []
    for k, mix in enumerate(mixes):
        er, pr = (_percent(rng, word[k]) for word in receptors)
        truth = SlideLabel(
            her2=guideline_score(mix),
            ish=_ish(amplified[k]) if scores[k] == "2+" else None,
            er=_receptor(er),
            pr=_receptor(pr),
        )
        draws.append(
            SlideDraw(
                patient=f"P{k + 1:04d}",
                seed=seed * 100_000 + k,
                mix=mix,
                patch_um=float(np.exp(rng.uniform(np.log(150), np.log(1500)))),
                tumor=float(rng.uniform(0.2, 0.7)),
                er_percent=er,
                pr_percent=pr,
                ish_chance=chances[k],
                amplified=amplified[k],
                scanner=str(rng.choice(SHIFTED_SCANNERS if shifted else SCANNERS)),
                run=int(rng.choice(SHIFTED_RUNS if shifted else RUNS)),
                artefacts=tuple(name for name, p in ARTEFACTS.items() if rng.random() < p),
                truth=truth,
                label=_read(rng, mix, er, pr, amplified[k]),
            )
        )
    return draws


def label_chances(draw: SlideDraw, task: SlideTask) -> NDArray[np.float64] | None:
    """Return the probability of each class of the label, (classes,), of one who knows the truth.

    That reader knows every share and the model of the reader's error, but not ISH, which no IHC
    slide shows. None: the draw has no class in the task.
    """
    if class_of(draw.label, task) is None:
        return None
    if task in (SlideTask.ER, SlideTask.PR):
        percent = draw.er_percent if task is SlideTask.ER else draw.pr_percent
        place = (np.log(max(percent or 0.0, _TRACE)) - np.log(RECEPTOR_LIMIT)) / RECEPTOR_NOISE
        positive = float(norm.cdf(place))
        return np.array([1 - positive, positive])
    scores = score_chances(draw)
    found = np.zeros(len(SLIDE_CLASSES[task]))
    for score, chance in zip(HER2_SCORES, scores, strict=True):
        for ish, part in (("+", draw.ish_chance), ("-", 1 - draw.ish_chance)):
            number = class_of(SlideLabel(her2=score, ish=_ish(ish == "+")), task)
            found[number] += chance * part
    return found


def score_chances(draw: SlideDraw) -> NDArray[np.float64]:
    """Return the probability (4,) that a reader scores the draw 0, 1+, 2+, 3+."""
    above = {
        name: float(norm.cdf((logit(share) - logit(LIMIT)) / READER_NOISE[name]))
        for name, share in _shares(draw.mix).items()
    }
    strong = above["3+"]
    weak = (1 - strong) * above["2+"]
    faint = (1 - strong - weak) * above["1+"]
    return np.array([1 - strong - weak - faint, faint, weak, strong])


def _mix(rng: np.random.Generator, score: str) -> Mix:
    """Draw the composition of a tumor of a score; shares come near the limits."""

    def between(low: float, high: float) -> float:
        return float(expit(rng.uniform(logit(low), logit(high))))

    strong = {"3+": (0.11, 0.97), "2+": (0.002, 0.09)}.get(score, (0.0005, 0.004))
    three = between(*strong)
    weak = {"3+": (0.1, 0.8), "2+": (0.12, 0.9), "1+": (0.005, 0.09)}.get(score, (0.001, 0.01))
    two = between(*weak) * (1 - three)
    faint = {"0": (0.004, 0.08), "1+": (0.12, 0.95)}.get(score, (0.2, 0.8))
    one = between(*faint) * (1 - three - two)
    return (1 - one - two - three, one, two, three)


def guideline_score(mix: Mix) -> Her2:
    """Return the guideline's score of cells whose shares of 0, 1+, 2+, 3+ are `mix`."""
    return _score(_shares(mix))


def _shares(mix: Mix) -> dict[str, float]:
    """Share of cells of each score or a stronger one."""
    _, one, two, three = mix
    return {"3+": three, "2+": two + three, "1+": one + two + three}


def _score(shares: dict[str, float]) -> Her2:
    for name in reversed(HER2_SCORES[1:]):
        if shares[name] > LIMIT:
            return name
    return "0"


def _amplified(
    rng: np.random.Generator, scores: Sequence[str], mixes: Sequence[Mix]
) -> tuple[list[float], list[bool]]:
    """Chance and outcome of ISH of each tumor: all 3+, no 0 or 1+, `ISH_POSITIVE` of 2+.

    Among 2+ the more strongly stained ones are amplified more often.
    """
    chance = [float(score == "3+") for score in scores]
    outcome = [score == "3+" for score in scores]
    equivocal = [k for k, score in enumerate(scores) if score == "2+"]
    if not equivocal:
        return chance, outcome
    stained = np.array([mixes[k][2] + 8 * mixes[k][3] for k in equivocal])
    place = 2.0 * (stained - stained.mean()) / (stained.std() or 1.0)
    latent = place + rng.standard_normal(len(place))
    wanted = round(ISH_POSITIVE * len(place))
    order = np.sort(latent)[::-1]
    cut = float(np.mean(order[max(wanted - 1, 0) : wanted + 1]))
    for k, at, drawn in zip(equivocal, place, latent, strict=True):
        chance[k], outcome[k] = float(norm.cdf(at - cut)), bool(drawn > cut)
    return chance, outcome


def _percent(rng: np.random.Generator, status: str) -> float | None:
    """Draw a percentage of stained nuclei of a status; "": none."""
    if not status:
        return None
    if status == "-":
        return float(rng.uniform(0.1, 0.9)) if rng.random() < 0.25 else 0.0
    if rng.random() < 0.12:  # low positive
        return float(np.exp(rng.uniform(np.log(1.1), np.log(10))))
    return float(100 * rng.beta(3.0, 1.1))


def _receptor(percent: float | None) -> Status | None:
    return None if percent is None else "+" if percent >= RECEPTOR_LIMIT else "-"


def _ish(amplified: bool) -> Status:
    return "+" if amplified else "-"


def _read(
    rng: np.random.Generator, mix: Mix, er: float | None, pr: float | None, amplified: bool
) -> SlideLabel:
    """Return what one reader says of a patient's slides; ISH is done where they say 2+."""
    noise = {name: spread * rng.standard_normal() for name, spread in READER_NOISE.items()}
    seen = {name: float(expit(logit(s) + noise[name])) for name, s in _shares(mix).items()}
    score = _score(seen)
    words = []
    for percent in (er, pr):
        error = float(np.exp(RECEPTOR_NOISE * rng.standard_normal()))
        words.append(None if percent is None else _receptor(max(percent, _TRACE) * error))
    return SlideLabel(
        her2=score, ish=_ish(amplified) if score == "2+" else None, er=words[0], pr=words[1]
    )
