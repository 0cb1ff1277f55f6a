"""Damage to the bytes of TIFF and DICOM files, as disks, networks and other programs do it."""

from __future__ import annotations

import random


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Return a file with bytes flipped, counts and types set to extremes, cut, or repeated."""
    data = bytearray(seed)
    head = min(len(data), 4096)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        match rng.randrange(5):
            case 0:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                data[rng.randrange(head)] = rng.randrange(256)
            case 2:
                at = rng.randrange(max(1, len(data) - 4))
                extreme = rng.choice((0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data)))
                data[at : at + 4] = extreme.to_bytes(4, "little")
            case 3:
                at = rng.randrange(max(1, len(data) - 2))
                data[at : at + 2] = rng.randrange(20).to_bytes(2, "little")  # a TIFF tag's type
            case _:
                if rng.random() < 0.3:
                    del data[rng.randrange(1, len(data)) :]
                else:
                    at = rng.randrange(len(data))
                    data[at:at] = data[at : at + rng.randrange(64)]
        head = max(1, min(len(data), 4096))
        if len(data) < 16:
            break
    return bytes(data)
