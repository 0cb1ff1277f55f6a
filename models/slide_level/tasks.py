"""Questions about a whole IHC slide, and its class in each (arXiv 2503.22069, Table 2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

Her2 = Literal["0", "1+", "2+", "3+"]
Status = Literal["+", "-"]
HER2_SCORES: tuple[Her2, ...] = get_args(Her2)
STATUSES: tuple[Status, ...] = get_args(Status)


class SlideTask(StrEnum):
    """Question about a whole slide."""

    BINARY = "binary"  #: HER2 negative (0, 1+, 2+ ISH-) or positive (2+ ISH+, 3+)
    THREE_WAY = "3way"  #: HER2 0, low (1+, 2+ ISH-) or high (2+ ISH+, 3+)
    FOUR_WAY = "4way"  #: HER2 0, 1+, 2+, 3+
    ER = "er"  #: estrogen receptor negative or positive
    PR = "pr"  #: progesterone receptor negative or positive


SLIDE_CLASSES: dict[SlideTask, tuple[str, ...]] = {
    SlideTask.BINARY: ("negative", "positive"),
    SlideTask.THREE_WAY: ("0", "low", "high"),
    SlideTask.FOUR_WAY: HER2_SCORES,
    SlideTask.ER: ("negative", "positive"),
    SlideTask.PR: ("negative", "positive"),
}
"""Class names by task, in the order of a system's outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLabel:
    """Word on a slide: HER2 score, ISH status, ER and PR status; None where nothing is known.

    A slide of ER has `er` alone, so that it is part of that task alone.
    """

    her2: Her2 | None = None
    ish: Status | None = None
    er: Status | None = None
    pr: Status | None = None


def class_of(label: SlideLabel, task: SlideTask) -> int | None:
    """Return the class number of a slide in a task; None: the slide is not part of the task.

    A 2+ whose ISH status is unknown has no class in the binary and the 3-way task, as Table 2 of
    the paper divides 2+ by ISH. In the 4-way task ISH does not matter. ISH of other scores is
    ignored.
    """
    match task:
        case SlideTask.ER:
            return None if label.er is None else int(label.er == "+")
        case SlideTask.PR:
            return None if label.pr is None else int(label.pr == "+")
    if label.her2 is None:
        return None
    if task is SlideTask.FOUR_WAY:
        return HER2_SCORES.index(label.her2)
    if label.her2 == "2+" and label.ish is None:
        return None
    high = label.her2 == "3+" or (label.her2 == "2+" and label.ish == "+")
    if task is SlideTask.BINARY:
        return int(high)
    return 2 if high else int(label.her2 != "0")
