"""Manifest of an encoder that a laboratory brings, in the format of transformers.

``python -m models.encoders.describe FOLDER --name NAME --mpp 0.5 [--tile-px 224]``

FOLDER holds ``config.json`` and ``model.safetensors`` as that library exports a vision transformer
(ViT, DINOv2). The command writes ``manifest.json`` beside them, with their checksums, and tells
what it wrote. Mean and standard deviation are those of ImageNet unless ``--mean`` and ``--std``
say otherwise. Whether a license allows the use is the laboratory's to know; ``--license`` notes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.encoders.spec import CONFIG_NAME, TILE_UM, EncoderSpec, fits_grid, refuse_pickles
from models.errors import ManifestError
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, file_sha256

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def describe(folder: Path, spec: EncoderSpec) -> EncoderSpec:
    """Write the manifest of a folder; return it with the dimension and the checksums.

    The encoder is loaded before, so that one that takes no such tiles gets no manifest.

    Raises
    ------
    ManifestError
        If the weights are pickled or missing, ``config.json`` names no dimension, its tiles are
        larger than those in which slides are read, or the encoder cannot be used.
    """
    from models.encoders.load import encoder_of  # torch

    refuse_pickles(folder)
    config, weights = folder / CONFIG_NAME, folder / WEIGHTS_NAME
    for path in (config, weights):
        if not path.is_file():
            raise ManifestError(
                f"{path} is missing. Export the encoder with save_pretrained, in one file of "
                "weights: max_shard_size='100GB'."
            )
    if not fits_grid(spec):
        raise ManifestError(
            f"{folder}: its tiles of {spec.tile_px * spec.mpp:.0f} µm are larger than those in "
            f"which slides are read ({TILE_UM:.0f} µm). Describe it at a finer --mpp or with a "
            "smaller --tile-px that it takes."
        )
    try:
        dimension = int(json.loads(config.read_text())["hidden_size"])
    except (ValueError, KeyError, TypeError) as err:
        raise ManifestError(f"{config}: names no hidden_size ({err}).") from err
    spec = replace(
        spec,
        dimension=dimension,
        sha256=file_sha256(weights),
        config_sha256=file_sha256(config),
    )
    encoder_of(folder, spec)
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 with a line that says what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="1")
    parser.add_argument("--mpp", type=float, required=True, help="µm per px of its tiles")
    parser.add_argument("--tile-px", type=int, default=224)
    parser.add_argument("--mean", type=float, nargs=3, default=IMAGENET_MEAN)
    parser.add_argument("--std", type=float, nargs=3, default=IMAGENET_STD)
    parser.add_argument("--license", default="", help="under which it is used")
    options = parser.parse_args(arguments)
    try:
        spec = EncoderSpec(
            name=options.name,
            version=options.version,
            architecture="transformers",
            tile_px=options.tile_px,
            mpp=options.mpp,
            dimension=1,
            mean=tuple(options.mean),
            std=tuple(options.std),
            license=options.license,
        )
        spec = describe(options.folder, spec)
    except (ManifestError, ValueError) as err:
        sys.stderr.write(f"{err}\n")
        return 1
    sys.stdout.write(
        f"{options.folder / MANIFEST_NAME}: {spec.name} {spec.version}, {spec.dimension} numbers "
        f"per tile of {spec.tile_px} px at {spec.mpp:g} µm/px, {spec.fingerprint[:12]}…\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
