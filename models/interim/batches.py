"""Slides of different size as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.interim.ipca import HeBatch, IhcBatch
from models.interim.pama import HePlaces
from models.interim.places import Anchors, Features, TileFeatures, find_anchors
from models.interim.shape import InterimShape


class Placed(NamedTuple):
    """H&E slide: its tiles in order, and their anchors."""

    tiles: TileFeatures
    anchors: Anchors


def placed(tiles: TileFeatures, shape: InterimShape) -> Placed:
    """Put the tiles of a slide in order and find its anchors."""
    ordered = tiles.in_order()
    return Placed(ordered, find_anchors(ordered, shape))


def he_batch(slides: Sequence[Placed]) -> HeBatch:
    """Join H&E slides; what is padded is marked and seen by nothing."""
    patches, no_patch = _padded([slide.tiles.features for slide in slides])
    tokens, no_anchor = _padded([slide.anchors.tokens for slide in slides])
    shape = (len(slides), tokens.shape[1], patches.shape[1])
    distance, angle = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for number, slide in enumerate(slides):
        rows, columns = slide.anchors.distance.shape
        distance[number, :rows, :columns] = slide.anchors.distance
        angle[number, :rows, :columns] = slide.anchors.angle
    places = HePlaces(torch.from_numpy(distance), torch.from_numpy(angle), no_anchor, no_patch)
    return HeBatch(tokens, patches, places)


def ihc_batch(slides: Sequence[TileFeatures]) -> IhcBatch:
    """Join IHC slides."""
    return IhcBatch(*_padded([slide.in_order().features for slide in slides]))


def draw_masked(he: HeBatch, share: float, draw: torch.Generator) -> Tensor:
    """Draw the anchors that patches do not see: `share` of each slide's, never all of them."""
    real = ~he.places.no_anchor
    counts = (real.sum(dim=1) * share).floor().long()
    rank = torch.rand(real.shape, generator=draw).masked_fill(~real, 2.0).argsort(dim=1).argsort(1)
    return (rank < counts[:, None]) & real


def _padded(parts: Sequence[Features]) -> tuple[Tensor, Tensor]:
    """Values (B, longest, F), and bool (B, longest) that is true for padding."""
    values = pad_sequence([torch.from_numpy(part) for part in parts], batch_first=True)
    lengths = torch.tensor([len(part) for part in parts])
    return values, torch.arange(values.shape[1])[None] >= lengths[:, None]
