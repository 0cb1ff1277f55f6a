"""Record of a training campaign: JSON from which a killed one goes on, and a table of it."""

from __future__ import annotations

import csv
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataSetError
from models.evaluation.epochs import LOG_NAME
from models.spec import ModelSpec
from models.training.card import FIGURE, FIGURE_WORDS
from models.training.configuration import TrainingConfig

RECORD_NAME, TABLE_NAME = "campaign.json", "campaign.md"
TOLD_EVERY_S = 10.0


def tell(line: str) -> None:
    """Write a line for people."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Record:
    """Record of a campaign, ``campaign.json``: a killed campaign goes on from it.

    `began` is the monotonic time at which it would have begun without a break.
    """

    path: Path
    facts: dict[str, Any]
    began: float
    told: float = 0.0

    @classmethod
    def opened(cls, path: Path, arguments: dict[str, Any]) -> Record:
        """Read the record, or begin one.

        Raises
        ------
        DataSetError
            If it is unusable or of other arguments.
        """
        facts: dict[str, Any] = {"arguments": arguments, "used_s": 0.0, "networks": {}}
        if path.is_file():
            try:
                facts = json.loads(path.read_text())
                same = facts["arguments"] == arguments
            except (ValueError, KeyError, TypeError) as err:
                raise DataSetError(f"{path}: damaged ({err}). Name another --out.") from err
            if not same:
                raise DataSetError(
                    f"{path}: of other arguments. Repeat them, or name another --out."
                )
        return cls(path, facts, time.monotonic() - facts["used_s"])

    def used_s(self) -> float:
        """Seconds since the beginning, without the time in which nothing ran."""
        return time.monotonic() - self.began

    def save(self, **facts: Any) -> None:
        """Write the record with further facts."""
        self.facts |= facts | {"used_s": round(self.used_s(), 1)}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.facts, indent=1) + "\n")
        part.rename(self.path)

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell how far the work is, now and then."""
        if self.used_s() - self.told >= TOLD_EVERY_S:
            self.told = self.used_s()
            tell(f"{self.told:7.0f} s  {what}: {done} of {total}")
            self.save()


def network_facts(
    spec: ModelSpec, config: TrainingConfig, whole: TrainingConfig, share: float, folder: Path
) -> dict[str, Any]:
    """Return what is recorded of a network: tiles, epochs, rates, figure.

    `config` trained it, a scaled `whole`; the share `share` of the drawn tiles was in use. `folder`
    holds its log.
    """
    with (folder / LOG_NAME).open(newline="") as stream:
        training = sum(float(row["seconds"]) for row in csv.DictReader(stream))
    used = round((config.tiles + config.stained_stroma_tiles) * share)
    ended = spec.trained.get("ended_early", {"steps": 1, "of": 1})
    rate = config.epochs * used * ended["steps"] / ended["of"] / max(training, 1e-3)
    return {
        "tiles": used,
        "epochs": config.epochs,
        "ended_early": spec.trained.get("ended_early"),
        "training_s": round(training, 1),
        "trained_per_s": round(rate, 1),
        "whole_epoch_s": round((whole.tiles + whole.stained_stroma_tiles) * share / rate, 1),
        "figure": FIGURE[spec.task],
        "value": spec.figures[FIGURE[spec.task]],
        "judged_on": spec.figures["data"],
    }


def table(facts: dict[str, Any]) -> str:
    """The record as Markdown; figures are of generated tiles."""
    machine, budget_s = facts["machine"], float(facts["arguments"]["budget"])
    drawing, trial = facts["drawing"], facts["trial"]
    drawn = drawing["tiles"] / drawing["seconds"] if drawing["seconds"] else 0.0
    rows = [("trial", trial["tiles"], "", facts["trial_s"], "", "", "")]
    rows += [("drawing", drawing["tiles"], "", drawing["seconds"], f"{drawn:.1f}", "", "")]
    for task, made in facts["networks"].items():
        words = f"{FIGURE_WORDS[made['figure']]} {made['value']:g}, {made['judged_on']}"
        epochs = f"{made['epochs']}"
        if made["ended_early"]:
            epochs = "{steps} of {of} steps".format(**made["ended_early"])
        rates = (f"{made['trained_per_s']:.1f}", f"{made['whole_epoch_s']:.0f}")
        rows += [(task, made["tiles"], epochs, made["seconds"], *rates, words)]
    lines = [
        f"{machine['device']}, {machine['cores']} cores, torch {machine['torch']}; "
        f"{facts['used_s']:.0f} of {budget_s:.0f} s used.",
        "",
        "| part | tiles | epochs | seconds | of the budget | tiles/s | whole epoch, s | figure |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part, tiles, epochs, seconds, rate, whole_s, figure in rows:
        share = f"{100 * seconds / budget_s:.0f} %"
        cells = (part, tiles, epochs, seconds, share, rate, whole_s, figure)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"
