"""The model card that stands beside each set of weights, written from its manifest."""

from __future__ import annotations

from pathlib import Path

from models.spec import ModelSpec, Task

CARD_NAME = "MODEL_CARD.md"
_ANSWERS = {
    Task.TUMOR: "whether an H&E tile (143 µm) holds tumor (network C)",
    Task.INTENSITY: "how strongly an IHC tile (143 µm) is stained: none, faint, weak, strong "
    "(network L)",
    Task.SEGMENTATION: "the HER2 class of each 1.1 µm pixel of an IHC tile (network M)",
}
_LIMITS = {
    Task.TUMOR: "It never saw in situ carcinoma, necrosis, folds, pen or frozen sections. What is "
    "crowded or has large nuclei may be called tumor.",
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

**Data.** {trained["tiles"]} tiles of {trained["data"]}, seed {trained["seed"]}. No real image
trained it.

**Training.** {trained["epochs"]} epochs, {trained["seconds"]} s. To make it again:
`tandem train {spec.task} --config reference --seed {trained["seed"]} --out DIR`.

**Figures** ({figures["data"]}; they say nothing of real tissue). `tandem evaluate
tiles --task {spec.task} --generated 200 --weights DIR` prints such figures on other seeds.

| figure | value |
|---|---|
{table}

**Limits.** {_LIMITS[spec.task]}
"""
    )
