"""Index of TIFF files: whole at their full length only, and bounded whatever it claims."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from appliance.slides.tiff_index import NDPI_FLAG, TiffIndex, TiffIndexError, tiff_reaches_end

EDGE = 64


def whole(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            return tiff_reaches_end(stream, path.stat().st_size)
        except TiffIndexError:
            return False


def pyramid(path: Path, *, big: bool, order: str, sub: bool) -> Path:
    image = np.arange(EDGE * EDGE * 3, dtype=np.uint8).reshape(EDGE, EDGE, 3)
    options = {"photometric": "rgb", "tile": (16, 16), "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as tiff:
        tiff.write(image, subifds=1 if sub else 0, **options)
        tiff.write(np.ascontiguousarray(image[::2, ::2]), subfiletype=1, **options)
    return path


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("sub", [False, True])
def test_a_tiff_is_whole_at_its_full_length_only(
    tmp_path: Path, big: bool, order: str, sub: bool
) -> None:
    made = pyramid(tmp_path / "a.tif", big=big, order=order, sub=sub)
    data = made.read_bytes()
    assert whole(made)
    with made.open("rb") as stream:
        assert len(TiffIndex(stream, len(data)).directories()) == 2
    cut = tmp_path / "b.tif"
    # The last bytes of a file may be a directory, values of its tags, or tiles.
    for length in (*range(0, len(data), 97), len(data) - 1):
        cut.write_bytes(data[:length])
        assert not whole(cut), length


def test_a_copy_that_has_its_full_size_from_the_start_is_whole_when_it_is_filled(
    tmp_path: Path,
) -> None:
    image = np.random.default_rng(1).integers(0, 255, (EDGE, EDGE, 3), dtype=np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:  # its directory comes before its tiles
        tiff.write(image, photometric="rgb", tile=(16, 16), compression="zlib", metadata=None)
    data = path.read_bytes()
    assert whole(path)
    for missing in range(64, len(data), 512):
        path.write_bytes(data[:-missing] + bytes(missing))
        assert not whole(path), missing


def entry(tag: int, value: int, kind: int = 4, count: int = 1) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value & 0xFFFFFFFF)


def ndpi(path: Path, at: int, tile_at: int) -> None:
    """Write a directory as NDPI has it: the upper halves of offsets follow it."""
    entries = [(256, 16, 0), (257, 16, 0), (273, tile_at, tile_at >> 32), (279, 100, 0)]
    entries.append((NDPI_FLAG, 1, 0))
    with path.open("wb") as stream:
        stream.write(b"II*\0" + struct.pack("<Q", at))
        stream.seek(at)
        stream.write(struct.pack("<H", len(entries)))
        stream.write(b"".join(entry(tag, value) for tag, value, _ in entries))
        stream.write(struct.pack("<Q", 0))
        stream.write(b"".join(struct.pack("<I", high) for _, _, high in entries))
        end = stream.tell()
        stream.truncate(max(end, tile_at + 100))


@pytest.mark.parametrize("at", [16, 5 << 30], ids=["small", "beyond 4 GiB"])
def test_ndpi_has_offsets_of_64_bits(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.ndpi"
    ndpi(path, at, at + 1000)
    assert whole(path)
    with path.open("r+b") as stream:
        stream.truncate(at + 1099)
    # A single value of LONG holds the offset itself; NDPI's upper half belongs to it.
    assert not whole(path)


def test_an_index_that_runs_in_a_circle_or_claims_much_ends(tmp_path: Path) -> None:
    head, size = b"II*\0\x08\0\0\0", entry(256, 1) + entry(257, 1)
    path = tmp_path / "a.tif"
    strips = entry(273, 0) + entry(279, 1)
    path.write_bytes(head + b"\4\0" + size + strips + struct.pack("<I", 8) + bytes(999))
    assert whole(path)
    for tags in (
        entry(273, 8, count=0x7FFFFFFF) + entry(279, 8, count=0x7FFFFFFF),
        entry(273, 8, kind=2) + entry(279, 1),
        entry(273, 8, kind=99) + entry(279, 1),
        entry(324, 0xFFFFFFFF) + entry(325, 0xFFFFFFFF),
        entry(270, 0xFFFFFF, kind=2, count=9999) + entry(273, 0),
    ):
        path.write_bytes(head + b"\4\0" + size + tags + bytes(4) + bytes(999))
        assert not whole(path)
    path.write_bytes(head + b"\xff\xff" + size + bytes(10))
    assert not whole(path)
    path.write_bytes(head + bytes(1000))  # the length was reserved, and nothing written yet
    assert not whole(path)


@pytest.mark.parametrize("changed", [(324,), (324, 325), (330,)])
def test_a_count_that_the_picture_does_not_have_is_refused_before_it_is_read(
    tmp_path: Path, changed: tuple[int, ...]
) -> None:
    many, planes = 1 << 20, {284: 2, 277: 3}
    for count, more in ((many, {}), (15, {}), (16, planes), (49, planes)):
        if 330 in changed and count != many:
            continue
        sizes = {256: 64, 257: 64, 322: 16, 323: 16} | more
        counts = {324: 48 if more else 16, 325: 48 if more else 16, 330: 1}
        counts |= dict.fromkeys(changed, count)
        tags = {tag: entry(tag, value) for tag, value in sizes.items()}
        tags |= {tag: entry(tag, 4096, count=number) for tag, number in counts.items() if tag < 330}
        if 330 in changed:
            tags[330] = entry(330, 4096, count=many)
        body = b"".join(tags[tag] for tag in sorted(tags))
        path = tmp_path / "a.tif"
        head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4)
        path.write_bytes(head + bytes(4096 + 4 * many))
        tracemalloc.start()
        assert not whole(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < many, count


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"rowsperstrip": 24}])
def test_edges_and_planes_count(tmp_path: Path, planar: bool, layout: dict[str, object]) -> None:
    image = np.ones((3, 50, 40) if planar else (50, 40, 3), dtype=np.uint8)
    path, config = tmp_path / "a.tif", "separate" if planar else "contig"
    tifffile.imwrite(path, image, photometric="rgb", planarconfig=config, metadata=None, **layout)
    assert whole(path)
