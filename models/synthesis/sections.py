"""Overviews of two whole sections of one block, with exact correspondence.

Slides at full resolution take minutes, and alignment does not use them. This module draws the same
worlds at some µm per px, where a nucleus is a fraction of a px. Sections lie on their slides as a
laboratory lays them: turned, shifted, stretched, face down, torn, in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.synthesis.cells import Cells, Kind
from models.synthesis.cohort import ORGANS
from models.synthesis.fields import FIELD_UM, Array, smooth_noise
from models.synthesis.plan import MIXES, PATTERNS
from models.synthesis.stain import StainStyle, random_ihc_style, random_style, transmit
from models.synthesis.world import World, build_world

Points = NDArray[np.float64]

SIZE_UM = (16_758.0, 13_965.0)
"""Width and height of a slide of 60,000 x 50,000 px at 0.2793 µm/px."""
LATTICE_UM = 100.0
"""Spacing of the raster that holds a deformation; features are at least ten times as wide."""
SEEN = 0.6
"""Share of the cells that a section shows; the next section cuts others."""
DRIFT_UM = (2.0, 9.0)
"""Range of the unpredictable displacement of structures between two sections."""
MASK_UM = 16.0
"""Resolution of the truth's masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """Placement of a piece of tissue: ``slide_um = linear @ (p + bend(p)) + shift_um``, p in world
    µm. `bend` float32 (2, rows, columns), in µm, every `LATTICE_UM`."""

    linear: Points
    shift_um: Points
    bend: NDArray[np.float32]

    def apply(self, points_um: Points) -> Points:
        """Convert world µm (n, 2) to slide µm."""
        moved: Points = (points_um + self._bent(points_um)) @ self.linear.T + self.shift_um
        return moved

    def inverse(self, points_um: Points) -> Points:
        """Convert slide µm (n, 2) to world µm, by fixed-point iteration: bends are weak."""
        straight = (points_um - self.shift_um) @ np.linalg.inv(self.linear).T
        found = straight
        for _ in range(4):
            found = straight - self._bent(found)
        result: Points = found
        return result

    def _bent(self, points_um: Points) -> Points:
        if not len(points_um):
            return points_um
        place = (points_um / LATTICE_UM).astype(np.float32)
        # OpenCV's remap takes at most 32,767 columns.
        columns = 16_384
        rows = -(-len(place) // columns)
        padded = np.zeros((rows * columns, 2), dtype=np.float32)
        padded[: len(place)] = place
        maps = padded.reshape(rows, columns, 2)
        bent = [
            cv2.remap(layer, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for layer in self.bend
        ]
        result: Points = np.stack(bent, axis=-1).reshape(-1, 2)[: len(place)].astype(np.float64)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionPair:
    """Overviews and truth. `he`, `ihc` uint8 RGB (rows, columns, 3) at `mpp`; `he_um`, `ihc_um` (n,
    2) are the same n places of tissue that both slides show, in slide µm; `he_tumor`, `ihc_tumor`
    and `ihc_control` bool at `MASK_UM`. `torn`: the IHC slide lacks a part; `moved`: its pieces lie
    differently to each other; `mirrored`: face down."""

    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]
    mpp: float
    he_um: Points
    ihc_um: Points
    he_tumor: NDArray[np.bool_]
    ihc_tumor: NDArray[np.bool_]
    ihc_control: NDArray[np.bool_]
    torn: bool
    moved: bool
    mirrored: bool
    control: bool
    degrees: float
    pieces: int


@dataclass(frozen=True, slots=True)
class _Piece:
    world: World
    he: Laid
    ihc: Laid
    drawn: Laid
    """`ihc` with the drift between two sections, which no truth contains."""
    kept: Points
    """(a, b, c): half plane a·x + b·y + c > 0 (world µm) that the IHC section keeps."""


def synthesize_sections(seed: int, *, mpp: float = 4.0) -> SectionPair:
    """Generate the pair of a seed: any turn, shifts to 8 mm, scale ±3 %, bends to 150 µm.

    A third is torn, half have control tissue, a tenth lie face down, pieces may have drifted apart.
    """
    rng = np.random.default_rng([seed, 0x5EC7])
    count = int(rng.choice(3, p=(0.5, 0.3, 0.2))) + 1
    torn = bool(rng.random() < 1 / 3)
    moved = count > 1 and bool(rng.random() < 0.4)
    mirrored = bool(rng.random() < 0.1)
    control = bool(rng.random() < 0.5)
    works = bool(rng.random() < 0.8)
    degrees = float(rng.uniform(-180, 180))
    pieces = _pieces(rng, count, degrees, mirrored=mirrored, moved=moved, torn=torn)
    styles = random_style(rng, spread=0.5), random_ihc_style(rng, spread=0.5)
    cores = _cores(rng, pieces, works) if control else []
    he, he_tumor = _drawn(pieces, "HE", styles[0], mpp, rng, [])
    ihc, ihc_tumor = _drawn(pieces, "HER2", styles[1], mpp, rng, cores)
    targets = [_targets(rng, piece) for piece in pieces]
    mask = np.zeros(ihc_tumor.shape, dtype=np.uint8)
    for x, y, radius, _ in cores:
        cv2.circle(mask, (round(x / MASK_UM), round(y / MASK_UM)), round(radius / MASK_UM), 1, -1)
    return SectionPair(
        he=he,
        ihc=ihc,
        mpp=mpp,
        he_um=np.concatenate([t[0] for t in targets]),
        ihc_um=np.concatenate([t[1] for t in targets]),
        he_tumor=he_tumor,
        ihc_tumor=ihc_tumor,
        ihc_control=mask.astype(bool),
        torn=torn,
        moved=moved,
        mirrored=mirrored,
        control=bool(cores),
        degrees=degrees,
        pieces=count,
    )


def _pieces(
    rng: np.random.Generator,
    count: int,
    degrees: float,
    *,
    mirrored: bool,
    moved: bool,
    torn: bool,
) -> list[_Piece]:
    """Lay pieces in a row on the H&E slide, all turned, shifted and stretched alike on the IHC
    slide."""
    size = {1: (9000.0, 7500.0), 2: (6400.0, 5600.0), 3: (4600.0, 5000.0)}[count]
    pitch = {1: 0.0, 2: 4900.0, 3: 3600.0}[count]
    middle = np.array(SIZE_UM) / 2
    room = np.array([2400.0, 2000.0])
    he_center = middle + rng.uniform(-room, room)
    ihc_center = middle + rng.uniform(-room, room) * np.array([1.0, 0.6])
    gap = ihc_center - he_center
    ihc_center = he_center + gap * min(1.0, 8000 / max(1.0, float(np.hypot(*gap))))
    tilt = rng.uniform(-5, 5)
    # Three pieces in a row are longer than the slide is high.
    upright = {1: 180.0, 2: 180.0, 3: 28.0}[count]
    turn = (degrees + 90) % 180 - 90
    degrees = degrees if abs(turn) <= upright else degrees - turn + upright * np.sign(turn)
    scale = 1 + rng.uniform(-0.03, 0.03)
    bend_um = rng.uniform(20, 150)
    organ = ORGANS[list(ORGANS)[int(rng.integers(len(ORGANS)))]]
    score = list(MIXES)[int(rng.integers(len(MIXES)))]
    lost = int(rng.integers(count)) if torn else -1
    pieces = []
    for number in range(count):
        world = build_world(
            int(rng.integers(2**31)),
            *size,
            replace(
                organ,
                mix=MIXES[score],
                pattern=PATTERNS[int(rng.integers(4))],
                zone_um=float(rng.uniform(150, 450)),
                tumor=float(rng.uniform(0.2, 0.6)),
            ),
        )
        at_um = np.array([(number - (count - 1) / 2) * pitch, 0.0])
        own_turn = rng.uniform(-15, 15) if moved else 0.0
        own_shift = rng.uniform(-350, 350, 2) if moved else np.zeros(2)
        center = np.array(size) / 2
        flat = np.zeros((2, *_lattice(size)), dtype=np.float32)
        bent = _bend(rng, size, bend_um)
        linear = _turned(tilt)
        pose = _turned(degrees) * scale
        flip = np.diag([-1.0, 1.0]) if mirrored else np.eye(2)
        ihc_linear = pose @ flip @ _turned(own_turn)
        ihc = Laid(
            linear=ihc_linear,
            shift_um=ihc_center + pose @ flip @ (at_um + own_shift) - ihc_linear @ center,
            bend=bent,
        )
        kept = np.array([0.0, 0.0, 1.0])
        if number == lost:
            kept = _cut(rng, size) if count == 1 else np.array([0.0, 0.0, -1.0])
        pieces.append(
            _Piece(
                world=world,
                he=Laid(linear=linear, shift_um=he_center + linear @ (at_um - center), bend=flat),
                ihc=ihc,
                drawn=replace(ihc, bend=bent + _drift(rng, size)),
                kept=kept,
            )
        )
    return pieces


def _turned(degrees: float) -> Points:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _lattice(size: tuple[float, float]) -> tuple[int, int]:
    return int(size[1] / LATTICE_UM) + 2, int(size[0] / LATTICE_UM) + 2


def _bend(
    rng: np.random.Generator, size: tuple[float, float], most_um: float
) -> NDArray[np.float32]:
    """Smooth displacement of at most `most_um`; features are 1 to 2 mm wide."""
    width = rng.uniform(1000, 2000) / LATTICE_UM * FIELD_UM
    layers = np.stack([smooth_noise(rng, _lattice(size), width) for _ in range(2)])
    longest = float(np.hypot(layers[0], layers[1]).max())
    bend: Array = (layers * (most_um / longest)).astype(np.float32)
    return bend


def _drift(rng: np.random.Generator, size: tuple[float, float]) -> NDArray[np.float32]:
    """Noise with features from one lattice step up."""
    rms = rng.uniform(*DRIFT_UM)
    layers = [smooth_noise(rng, _lattice(size), 1.2 * FIELD_UM) for _ in range(2)]
    drift: NDArray[np.float32] = np.stack(layers).astype(np.float32) * np.float32(rms)
    return drift


def _cut(rng: np.random.Generator, size: tuple[float, float]) -> Points:
    """Straight tear that removes about a quarter of the tissue, as (a, b, c) of `_Piece.kept`."""
    turn = rng.uniform(0, 2 * np.pi)
    a, b = np.cos(turn), np.sin(turn)
    far = 0.13 * min(size)
    return np.array([a, b, far - a * size[0] / 2 - b * size[1] / 2])


def _is_kept(piece: _Piece, points_um: Points) -> NDArray[np.bool_]:
    kept: NDArray[np.bool_] = points_um @ piece.kept[:2] + piece.kept[2] > 0
    return kept


def _cores(
    rng: np.random.Generator, pieces: Sequence[_Piece], works: bool
) -> list[tuple[float, float, float, int]]:
    """Control tissue (x, y, radius in slide µm, grade): three cores along one short side."""
    radius = float(rng.uniform(300, 700))
    side = radius + 250 if rng.random() < 0.5 else SIZE_UM[0] - radius - 250
    heights = np.linspace(0.18, 0.82, 3) * SIZE_UM[1]
    cores = []
    for y, grade in zip(heights, (3, 0, 3), strict=True):
        around = np.array([[side, y]]) + (radius + 150) * np.array(
            [[np.cos(t), np.sin(t)] for t in np.linspace(0, 2 * np.pi, 24)] + [[0, 0]]
        )
        if not any((_field_at(p, "tissue", p.ihc.inverse(around)) > 0).any() for p in pieces):
            cores.append((side, float(y), radius, grade if works else 0))
    return cores


def _field_at(piece: _Piece, name: str, points_um: Points) -> Array:
    """Value of a field, 0-1, at world points (n, 2); 0 outside the block."""
    world = piece.world
    inside = (points_um >= 0).all(axis=1) & (points_um < (world.width_um, world.height_um)).all(1)
    column, row = (points_um / FIELD_UM).round().astype(int).T
    field = world.fields[name]
    rows, columns = field.shape
    values = field[row.clip(0, rows - 1), column.clip(0, columns - 1)].astype(np.float32) / 255
    result: Array = values * inside
    return result


def _targets(rng: np.random.Generator, piece: _Piece) -> tuple[Points, Points]:
    """Places of solid tissue that both slides show, in µm of each slide."""
    points = rng.uniform((0, 0), (piece.world.width_um, piece.world.height_um), (2000, 2))
    points = points[(_field_at(piece, "tissue", points) > 0.99) & _is_kept(piece, points)][:250]
    return piece.he.apply(points), piece.ihc.apply(points)


def _drawn(
    pieces: Sequence[_Piece],
    stain: str,
    style: StainStyle,
    mpp: float,
    rng: np.random.Generator,
    cores: Sequence[tuple[float, float, float, int]],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels of a slide, and its tumor mask (every `MASK_UM`)."""
    shape = (round(SIZE_UM[1] / mpp), round(SIZE_UM[0] / mpp))
    amounts = np.zeros((*shape, 3), dtype=np.float32)
    tumor = np.zeros((round(SIZE_UM[1] / MASK_UM), round(SIZE_UM[0] / MASK_UM)), dtype=bool)
    for piece in pieces:
        laid = piece.he if stain == "HE" else piece.drawn
        row, column, points = _grid(piece.world, laid, shape, mpp)
        amounts[row, column] += _layers(piece, points, stain, keep=stain != "HE")
        _splat(amounts, piece, laid, stain, mpp, rng)
        row, column, points = _grid(piece.world, laid, tumor.shape, MASK_UM)
        found = _field_at(piece, "tumor", points) * _field_at(piece, "tissue", points) > 0.5
        tumor[row, column] |= found & (_is_kept(piece, points) | (stain == "HE"))
    for x, y, radius, grade in cores:
        far = round(radius / mpp)
        top, left = round(y / mpp) - far, round(x / mpp) - far
        disk = np.hypot(*np.mgrid[-far : far + 1, -far : far + 1]) <= far
        grain = cv2.GaussianBlur(rng.random(disk.shape, dtype=np.float32) - 0.5, (0, 0), 6 / mpp)
        core = amounts[top : top + len(disk), left : left + len(disk)]
        core[..., 0] += disk * (0.12 + 0.3 * grain)
        core[..., 2] += disk * (0.02 + (0.45 + 0.6 * grain) * (grade == 3))
    style = replace(style, blur_px=0.6, sharpen=0.0)
    return transmit(np.maximum(amounts, 0), style, rng), tumor


def _grid(
    world: World, laid: Laid, shape: tuple[int, int], mpp: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Points]:
    """Rows, columns (n,) of the px of a raster under a piece, and their world µm (n, 2)."""
    w, h = world.width_um, world.height_um
    corners = laid.apply(np.array([[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]]))
    low = np.clip(((corners.min(0) - 200) / mpp).astype(int), 0, (shape[1] - 1, shape[0] - 1))
    high = np.clip(((corners.max(0) + 200) / mpp).astype(int), low + 1, (shape[1], shape[0]))
    # Bends are smooth: compute the inverse on a coarse grid and interpolate.
    step = max(1, round(2 * MASK_UM / mpp))
    x, y = (np.arange(a - step, b + 2 * step, step) for a, b in zip(low, high, strict=True))
    few = (np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) + 0.5) * mpp
    coarse = laid.inverse(few).reshape(len(y), len(x), 2).astype(np.float32)
    to_fine = np.array([[step, 0, x[0] - low[0]], [0, step, y[0] - low[1]]], dtype=np.float64)
    dense = cv2.warpAffine(coarse, to_fine, tuple(int(v) for v in high - low))
    tissue = world.fields["tissue"]
    place = (dense / FIELD_UM).round()
    inside = ((place >= 0) & (place < (tissue.shape[1], tissue.shape[0]))).all(axis=2)
    found = np.zeros(inside.shape, dtype=bool)
    at_px = place[inside].astype(int)
    found[inside] = tissue[at_px[:, 1], at_px[:, 0]] > 0
    rows, columns = np.nonzero(found)
    return rows + low[1], columns + low[0], dense[rows, columns].astype(np.float64)


def _layers(piece: _Piece, points: Points, stain: str, *, keep: bool) -> Array:
    """Amounts (n, 3) of hematoxylin, eosin and DAB between the nuclei, see `layers`."""
    look = piece.world.look
    column, row = (points / FIELD_UM).round().astype(int).T
    f = {name: v[row, column].astype(np.float32) / 255 for name, v in piece.world.fields.items()}
    tissue = f["tissue"] * (_is_kept(piece, points) if keep else 1)
    noise = smooth_noise(np.random.default_rng([piece.world.seed, keep]), (1024, 1024), 24)
    place = (points / 9).astype(int) % 1024
    uneven = noise[place[:, 1], place[:, 0]]
    collagen = (0.55 + 0.45 * f["dense"]) * (1 + 0.1 * uneven)
    epithelium = np.maximum(np.maximum(f["tumor"], f["benign"]), f["skin"]) > 0.5
    left = tissue * (1 - 0.95 * f["lumen"]) * (1 - 0.9 * (f["fat"] > 0.5))
    if stain == "HE":
        eosin = look.stroma_eosin * collagen * (1 - 0.75 * f["lymph"])
        for name, amount in (("mucin", 0.05), ("necrosis", 0.42)):
            eosin = eosin + (amount - eosin) * f[name]
        eosin = np.where(epithelium, look.cyto_eosin, eosin)
        haematoxylin = np.where(epithelium, look.cyto_basophil, 0.03 + 0.08 * f["mucin"])
        return np.stack([haematoxylin * left, eosin * left, 0 * left], axis=1).astype(np.float32)
    base = look.counterstain * (0.4 + 0.6 * collagen)
    base = np.where(epithelium, 0.25 * look.cyto_basophil + 0.3 * look.counterstain, base)
    stray = look.stroma_dab * np.clip(uneven, 0, 2) * ~epithelium
    edge = look.edge_dab * np.clip(1 - 2.5 * np.abs(f["tissue"] - 0.6), 0, 1)
    dab = look.haze + stray + edge + 0.6 * look.stroma_dab * f["necrosis"]
    return np.stack([base * left, 0.012 * left, dab * left], axis=1).astype(np.float32)


def _splat(
    amounts: NDArray[np.float32],
    piece: _Piece,
    laid: Laid,
    stain: str,
    mpp: float,
    rng: np.random.Generator,
) -> None:
    """Add each cell's stains to its px."""
    cells = piece.world.cells
    shown = rng.random(len(cells)) < SEEN
    if stain != "HE":
        shown &= _is_kept(piece, cells.xy_um.astype(np.float64))
    cells = cells.take(np.asarray(shown))
    place = np.floor(laid.apply(cells.xy_um.astype(np.float64)) / mpp).astype(int)
    rows, columns = amounts.shape[:2]
    on = ((place >= 0) & (place < (columns, rows))).all(axis=1)
    cells, place = cells.take(np.asarray(on)), place[on]
    flat = place[:, 1] * columns + place[:, 0]
    red = cells.kind == Kind.ERYTHROCYTE
    share = np.pi * cells.radius_um[:, 0] * cells.radius_um[:, 1] / mpp**2
    strength = 0.85 if stain == "HE" else 0.62
    parts = [cells.chromatin * strength * share * ~red, cells.eosin * share * red]
    parts[1] = parts[1] if stain == "HE" else 0.1 * parts[1]
    parts.append(np.zeros(len(cells)) if stain == "HE" else _membranes(cells) / mpp**2)
    for channel, values in enumerate(parts):
        total = np.bincount(flat, weights=values, minlength=rows * columns).reshape(rows, columns)
        # A cell is wider than a px: spread it over its own size.
        amounts[..., channel] += cv2.GaussianBlur(total.astype(np.float32), (0, 0), 3.0 / mpp)


def _membranes(cells: Cells) -> Array:
    """DAB of a cell's membrane, amount times µm²: the integral of the line in
    `layers.her2_layers`."""
    outline_um = 7.5 * cells.radius_um.mean(axis=1)
    amount: Array = cells.membrane * cells.completeness * outline_um * 1.2
    return amount
