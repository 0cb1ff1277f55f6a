"""Numbers of the interim reader's network, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InterimShape:
    """`config` of a network. The paper prints `prompts` and `mask_ratio`; the rest is ours.

    Attributes
    ----------
    features
        Length of a tile's feature vector, as its encoder gives it.
    width, heads, blocks
        Length of a token; attention heads; blocks.
    anchors
        Position anchors of an H&E slide, at most; slides with fewer tiles have as many as tiles.
    prompts
        Learnable prompts K_IHC of each block (n_k in the paper, which sweeps 32 to 256).
        0: none, which is PAMA.
    mask_ratio
        Share of the anchors that H&E patches do not see in a training step (r in the paper).
    distance_bins, angle_bins
        Steps of the relative distance D and the relative polar angle P.
    classes
        HER2 0, 1+, 2+, 3+.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    features: int
    width: int = 128
    heads: int = 4
    blocks: int = 2
    anchors: int = 64
    prompts: int = 256
    mask_ratio: float = 0.75
    distance_bins: int = 16
    angle_bins: int = 16
    classes: int = 4

    def __post_init__(self) -> None:
        least = {"prompts": 0}
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "mask_ratio":
                if not 0 <= value < 1:
                    raise ValueError(f"mask_ratio {value}: at least 0, below 1")
            elif value < least.get(name, 1):
                raise ValueError(f"{name} {value}: at least {least.get(name, 1)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: not a multiple of {self.heads} heads")
