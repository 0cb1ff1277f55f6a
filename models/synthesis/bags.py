"""Bags of drawn slides: vectors from a pool of drawn tiles, composed as each slide's draw says.

A pool is encoded once. A slide of thousands of tiles then costs milliseconds, because its tiles are
chosen and not drawn. Tiles of the pool recur in several slides; figures on new tissue need a pool
of another seed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from models.errors import SynthesisError
from models.mil.bag import SUFFIX, Bag
from models.spec import TILE_MPP, TILE_PX, TUMOR_SHARE
from models.synthesis.fields import FIELD_UM, Array, smooth_noise
from models.synthesis.slide_cohort import Mix, SlideDraw
from models.synthesis.slide_overview import Stain
from models.synthesis.tile_pool import (
    KINDS,
    NUCLEAR_PERCENT,
    PoolStain,
    draw_tissue,
    stained,
    style_of_run,
)

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Vectors, float32 (n, D), of tiles uint8 (n, 224, 224, 3)."""
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""
TILE_UM = TILE_PX * TILE_MPP
TILES = (600, 2400)
"""Range of the number of tissue tiles of a slide."""
LOOKS_PER_SLIDE = 2
"""Looks of the pool that the tissue of one slide has."""
POOL_VERSION = 1
"""Counted up when equal plans give other tiles: pools of other versions are refused."""
POSITIVE = len(KINDS) - 1
"""Kind of a planted focus: 3+."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePool:
    """Encoded tiles in every staining.

    `kinds`, `looks` int64 (n,): numbers in `KINDS`, and of the patients whose tissue it is. `truth`
    float32 (n, 5), see `models.mil.bag`. `vectors` float16 (n, D) by (scanner, run). `encoder` is
    the fingerprint.
    """

    encoder: str
    kinds: NDArray[np.int64]
    looks: NDArray[np.int64]
    truth: NDArray[np.float32]
    vectors: dict[tuple[str, int], NDArray[np.float16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """Description of a pool: `rows` x `columns` tiles of each kind and look, in each staining.

    `stainings` are pairs of scanner and staining run.
    """

    seed: int
    stainings: tuple[tuple[str, int], ...]
    stain: PoolStain = "HER2"
    looks: int = 16
    rows: int = 2
    columns: int = 3


def make_pool(
    folder: Path, plan: PoolPlan, encode: Encode, encoder: str, progress: Progress
) -> TilePool:
    """Return the pool in a folder; looks whose file is missing are drawn and encoded.

    Equal plans give equal pools, also where a run was stopped and goes on.

    Raises
    ------
    SynthesisError
        If the folder holds a pool of another plan or encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_from = json.dumps([POOL_VERSION, asdict(replace(plan, looks=0)), encoder])
    parts = []
    for look in range(plan.looks):
        path = folder / f"look-{look}{SUFFIX}"
        if not path.is_file():
            tensors = _encoded_look(plan, look, encode)
            hidden = path.with_name(f".{path.name}")
            save_file(tensors, hidden, metadata={"pool": made_from})
            hidden.rename(path)
        progress("drawing a pool of tiles", look + 1, plan.looks)
        parts.append(_read_look(path, made_from))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return TilePool(
        encoder=encoder,
        kinds=joined["kinds"],
        looks=joined["looks"],
        truth=joined["truth"],
        vectors={pair: joined[_staining(*pair)] for pair in plan.stainings},
    )


def _encoded_look(plan: PoolPlan, look: int, encode: Encode) -> dict[str, NDArray[Any]]:
    parts: dict[str, list[NDArray[Any]]] = {"kinds": [], "looks": [], "truth": []}
    for kind in range(len(KINDS)):
        tissue = draw_tissue(plan.seed, look, kind, plan.rows, plan.columns, plan.stain)
        parts["kinds"].append(tissue.kinds)
        parts["looks"].append(np.full(len(tissue.kinds), look))
        parts["truth"].append(tissue.truth)
        for scanner, run in plan.stainings:
            tiles = stained(tissue, style_of_run(scanner, run), plan.seed * 1000 + look)
            vectors = encode(tiles).astype(np.float16)
            parts.setdefault(_staining(scanner, run), []).append(vectors)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _read_look(path: Path, made_from: str) -> dict[str, NDArray[Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            found = (file.metadata() or {}).get("pool")
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError) as err:
        raise SynthesisError(f"{path}: not a pool of tiles ({err}). Remove it.") from err
    if found != made_from:
        raise SynthesisError(
            f"{path.parent}: a pool of another seed, size, encoder or edition. "
            f"Remove {path.parent.parent}, or name another folder."
        )
    return tensors


def _staining(scanner: str, run: int) -> str:
    return f"vectors {scanner} {run}"


def compose_bag(
    draw: SlideDraw,
    pool: TilePool,
    *,
    stain: Stain = "HER2",
    tiles: int | None = None,
    focus: float = 0.0,
) -> Bag:
    """Return the bag of a patient's slide of a stain; equal arguments give equal bags.

    A blob of `tiles` tiles (None: drawn) holds the tumor's share of the draw in one region, in
    clones of `patch_um` whose grades have the shares of its mix as exactly as whole tiles allow.
    ER and PR need a pool of nuclear stain; its kinds are mixed to the draw's percentage of nuclei.
    `focus` (0-1) is the share of the tumor's tiles in a round focus of 3+, whatever the mix.
    It has no control tissue; a bag of a real slide holds all its tissue.

    Raises
    ------
    SynthesisError
        If the pool has no tiles of the draw's scanner and run, or the patient no such slide.
    """
    staining = (draw.scanner, draw.run)
    if staining not in pool.vectors:
        raise SynthesisError(f"the pool has no tiles of scanner {draw.scanner}, run {draw.run}")
    rng = np.random.default_rng([draw.seed, 0xBA65, get_args(Stain).index(stain)])
    count = int(rng.integers(*TILES)) if tiles is None else tiles
    places = _blob(rng, count)
    kinds = _kinds(rng, places, draw, _mix_of(draw, stain))
    if focus > 0:
        kinds[_focus(rng, places, kinds, focus)] = POSITIVE
    looks = rng.choice(np.unique(pool.looks), LOOKS_PER_SLIDE, replace=False)
    mine = np.isin(pool.looks, looks)
    chosen = np.empty(count, dtype=np.int64)
    for kind in np.unique(kinds):
        of_kind = np.flatnonzero(mine & (pool.kinds == kind))
        if len(of_kind) == 0:
            of_kind = np.flatnonzero(pool.kinds == kind)
        wanted = kinds == kind
        chosen[wanted] = rng.choice(of_kind, int(wanted.sum()))
    return Bag(
        slide=f"{draw.patient}-{stain}",
        encoder=pool.encoder,
        vectors=pool.vectors[staining][chosen],
        places=places,
        truth=pool.truth[chosen].astype(np.float16),
    )


def tumor_tiles(bag: Bag, kinds: Sequence[int] = range(1, len(KINDS))) -> NDArray[np.bool_]:
    """Return which tiles of a drawn bag hold tumor of some kinds, (n,): `TUMOR_SHARE` of the px.

    Raises
    ------
    SynthesisError
        If the truth of the bag's tiles is not known.
    """
    if bag.truth is None:
        raise SynthesisError(f"{bag.slide}: the truth of its tiles is not known")
    share = bag.truth[:, list(kinds)].astype(np.float32).sum(axis=1)
    wanted: NDArray[np.bool_] = share >= TUMOR_SHARE
    return wanted


def _blob(rng: np.random.Generator, count: int) -> NDArray[np.int32]:
    """Return columns and rows (count, 2) of an irregular section."""
    edge = math.ceil(math.sqrt(count) * 1.4)
    y, x = np.mgrid[0:edge, 0:edge]
    noise = _noise(rng, (edge, edge), edge / 5)
    inside = np.hypot(x - edge / 2, y - edge / 2) / edge - 0.08 * noise
    chosen = np.argsort(inside, axis=None, kind="stable")[:count]
    return np.column_stack([x.ravel()[chosen], y.ravel()[chosen]]).astype(np.int32)


def _kinds(
    rng: np.random.Generator, places: NDArray[np.int32], draw: SlideDraw, mix: Mix
) -> NDArray[np.int64]:
    """Return the kind of each tile, (n,)."""
    edge = int(places.max()) + 1
    at = (places[:, 1], places[:, 0])
    kinds = np.zeros(len(places), dtype=np.int64)
    tumor = np.argsort(-_noise(rng, (edge, edge), edge / 6)[at], kind="stable")
    tumor = tumor[: max(1, round(draw.tumor * len(places)))]
    clones = _noise(rng, (edge, edge), max(1.0, draw.patch_um / TILE_UM))[at]
    order = tumor[np.argsort(clones[tumor], kind="stable")]
    kinds[order] = 1 + np.repeat(np.arange(len(mix)), _numbers(mix, len(order)))
    return kinds


def _mix_of(draw: SlideDraw, stain: Stain) -> Mix:
    """Return the shares of the kinds of tumor of a slide.

    A percentage of nuclei is that of two neighboring kinds of `NUCLEAR_PERCENT` together.
    """
    if stain == "HER2":
        return draw.mix
    percent = draw.er_percent if stain == "ER" else draw.pr_percent
    if percent is None:
        raise SynthesisError(f"{draw.patient} has no slide of {stain}")
    stops = np.arange(len(NUCLEAR_PERCENT))
    at = float(np.interp(percent, NUCLEAR_PERCENT, stops))
    a, b, c, d = (float(max(0.0, 1 - abs(at - stop))) for stop in stops)
    return a, b, c, d


def _numbers(mix: Mix, count: int) -> NDArray[np.int64]:
    """Return whole numbers of tiles, which sum to `count`, of each share."""
    edges = np.round(np.cumsum([0.0, *mix]) / sum(mix) * count).astype(np.int64)
    return np.diff(edges)


def _focus(
    rng: np.random.Generator, places: NDArray[np.int32], kinds: NDArray[np.int64], share: float
) -> NDArray[np.int64]:
    """Return the tumor's tiles nearest to one of them: a `share` of all of them."""
    tumor = np.flatnonzero(kinds > 0)
    center = places[rng.choice(tumor)]
    far = np.hypot(*(places[tumor] - center).T)
    return tumor[np.argsort(far, kind="stable")[: max(1, round(share * len(tumor)))]]


def _noise(rng: np.random.Generator, shape: tuple[int, int], scale_tiles: float) -> Array:
    """Return smooth noise with a value per tile; features are some `scale_tiles` wide."""
    return smooth_noise(rng, shape, scale_tiles * FIELD_UM)
