"""Model card of a set of weights, written from its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.spec import CARD_NAME, ModelSpec, Task
from models.training.configuration import configuration_names

OTHER_SEED = 100_000
"""Seed of tiles for ``tandem evaluate tiles`` that are none of those of the figures, whose seeds
go from 0 to `test_tiles`."""
FIGURE = {Task.TUMOR: "accuracy", Task.INTENSITY: "accuracy", Task.SEGMENTATION: "mean_iou"}
"""Figure on the validation tiles that chooses the epoch."""
FIGURE_WORDS = {"accuracy": "accuracy", "mean_iou": "mean IoU"}
"""Names, for people, of the figures that choose an epoch."""
_ANSWERS = {
    Task.TUMOR: "whether an H&E tile (143 µm) holds tumor (network C)",
    Task.INTENSITY: "how strongly an IHC tile (143 µm) is stained: none, faint, weak, strong "
    "(network L)",
    Task.SEGMENTATION: "the HER2 class of each 1.1 µm pixel of an IHC tile (network M)",
}
_LIMITS = {
    Task.TUMOR: "It never saw in situ carcinoma, mitoses, lobular carcinoma in single file, or "
    "frozen sections. What is crowded or has large nuclei may be called tumor.",
    Task.INTENSITY: "A tile of mixed intensities has one label: the class of most tumor pixels. "
    "Haze and cytoplasmic staining may be called faint.",
    Task.SEGMENTATION: "It separates tumor from other tissue by what the IHC slide shows alone; it "
    "is asked only about tiles that network C calls tumor. Completeness of membranes is not "
    "measured.",
}


def write_card(folder: Path, spec: ModelSpec) -> None:
    """Write ``MODEL_CARD.md`` into a weights folder."""
    trained, figures = spec.trained, spec.figures
    if spec.task is Task.SEGMENTATION:
        rows = [("pixel accuracy", figures["pixel_accuracy"]), ("mean IoU", figures["mean_iou"])]
        rows += [(f"IoU {name}", value) for name, value in figures["iou"].items()]
    else:
        rows = [("accuracy", figures["accuracy"]), ("macro F1", figures["macro_f1"])]
        rows += [(f"F1 {name}", c["f1"]) for name, c in figures["per_class"].items()]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    (folder / CARD_NAME).write_text(
        f"""# {spec.name} {spec.version}

Answers {_ANSWERS[spec.task]}.

**Intended use: research only.** Not for diagnostic use. A site replaces these weights by its own.

**Architecture.** {spec.architecture}, {spec.input_px} px, {spec.pixels}; numbers in
`manifest.json`.

**Data.** {_data(spec)}

**Training.** {trained["epochs"]} epochs, {trained["seconds"]} s.{_how(spec)}{_end(spec)}
To make it again:
`tandem train {spec.task} --config {_config(spec)} --seed {trained["seed"]} --out DIR`.

**Figures** ({figures["data"]}). {_reach(spec)} `tandem evaluate
tiles --task {spec.task} --generated 200 --seed {OTHER_SEED} --weights DIR` prints such figures on
other tiles.

| figure | value |
|---|---|
{table}

**On real images.** {_on_real(spec)}

**Calibration.** {_calibration(spec)}

**Appearance.** {_appearance(spec)}

**Limits.** {_LIMITS[spec.task]}
"""
    )


def _how(spec: ModelSpec) -> str:
    """Loss, optimizer, schedule and augmentation; nothing of weights that do not record them."""
    used = spec.trained.get("configuration", {})
    if "optimizer" not in used:
        return ""
    decay = f", weight decay {used['weight_decay']:g}" if used["weight_decay"] else ""
    return (
        f" Loss: {used['loss']}. Optimizer: {used['optimizer']}, learning rate "
        f"{used['learning_rate']:g}{decay}, batch {used['batch_size']}. Schedule: "
        f"{used['schedule']}. Augmentation: {used['augmentation']}."
    )


def _end(spec: ModelSpec) -> str:
    """Return the sentences on an early end of the training and on the epoch that is kept."""
    ended, told = spec.trained.get("ended_early"), ""
    if ended is not None:
        told = (
            f" It was ended when its time was used, after {ended['steps']} of {ended['of']} steps: "
            "the command below goes on longer and makes other weights."
        )
    kept = spec.trained.get("kept")
    if kept is None:
        return told if "configuration" not in spec.trained else f"{told} The last epoch is kept."
    return (
        f"{told} Epoch {kept['epoch']} (the first is 0) is kept: {FIGURE_WORDS[kept['figure']]} "
        f"{kept['value']:g} on {kept['tiles']} validation tiles, which trained nothing and are not "
        "those of the figures below."
    )


def _on_real(spec: ModelSpec) -> str:
    told = spec.figures.get("real")
    if told is None:
        return "Not judged on any."
    return f"{told[:1].upper()}{told[1:]}."


def _calibration(spec: ModelSpec) -> str:
    facts = spec.trained.get("calibration")
    if facts is None:
        return "None: its probabilities are as the network gives them."
    return (
        f"Temperature {spec.temperature:g}, fitted on {facts['tiles']} tiles of the same kind that "
        f"neither trained it nor made its figures: negative log-likelihood "
        f"{facts['nll_before']:g} before, {facts['nll']:g} after."
    )


def _appearance(spec: ModelSpec) -> str:
    if spec.appearance is None:
        return "Not recorded: Tandem cannot tell slides unlike its training tiles."
    return (
        f"Stain and focus of {spec.appearance['tiles']} training tiles are in `manifest.json`; "
        "a slide with many tiles unlike them is given to a person."
    )


def _data(spec: ModelSpec) -> str:
    trained = spec.trained
    told = f"{trained['tiles']} tiles of {trained['data']}, seed {trained['seed']}."
    if "init" in trained:
        told += f" {_beginning(trained['init'])}"
    if trained.get("init_may_have_seen_test"):
        told += (
            " **What it began with may have learned from patients of the test split: the figures "
            "may be too good.**"
        )
    if "data_set" not in trained:
        only_drawn = "init" not in trained
        return f"{told} No real image trained it." if only_drawn else told
    splits = ", ".join(
        f"{name} {counts['tiles']} tiles of {counts['patients']} patients"
        for name, counts in trained["data_set"]["counts"].items()
    )
    kind = trained["data_set"]["source"]["kind"]
    return f"{told} Its SHA-256 is {trained['data_set']['sha256']}; made from {kind}; {splits}."


def _beginning(init: dict[str, Any]) -> str:
    if "format" not in init:
        return f"Training began with the weights {init['sha256'][:12]}; see there."
    anew = ", ".join(init["begun_anew"]) or "nothing"
    return (
        f"Training began with a checkpoint of {init['architecture']} in {init['format']}' format, "
        f"SHA-256 {init['sha256']}; begun anew: {anew}. What trained that checkpoint is not known "
        "here."
    )


def _config(spec: ModelSpec) -> str:
    """Value of ``--config`` and the other options that made the weights."""
    trained = spec.trained
    used = trained.get("configuration", {})
    known = spec.name in configuration_names()
    named = "reference" if spec.name == f"reference-{spec.task}" else spec.name
    # What has no known name came from a file.
    options = [named if known else f"{named}.toml"]
    if "data_set" in trained:
        options.append("--data DATASET")
    elif "validation_tiles" in used:
        options.append(f"--tiles {trained['tiles'] - trained['stained_stroma_tiles']}")
        if used["validation_tiles"] == used["test_tiles"]:
            options.append(f"--held-out {used['test_tiles']}")
    if "init" in trained:
        options.append("--init WEIGHTS")
    return " ".join([*options, f"--epochs {trained['epochs']}"])


def _reach(spec: ModelSpec) -> str:
    if "data_set" in spec.trained:
        return "They hold for tissue, stains and scanners like those of its data set, and no other."
    if "init" in spec.trained:
        return "They are of generated tissue."
    return "They say nothing of real tissue."
