"""The benchmark of strong stain outside the tumor: its table counts sections beyond the limit."""

from __future__ import annotations

from benchmarks.outside import table


def test_sections_beyond_the_limit_are_counted_by_score() -> None:
    rows = [
        ("3+", {"all": 0.0, "half": 0.5, "none": 2.0}),
        ("3+", {"all": 0.11, "half": 0.1, "none": 0.3}),
        ("0", {"all": 0.0, "half": 0.0, "none": 0.0}),
    ]
    head, zero, strong = table(rows, 0.1)
    assert head.endswith("all, half, none") and "0.1 mm²" in head
    assert zero.split() == ["0", "1", "0", "0", "0"]
    assert strong.split() == ["3+", "2", "1", "1", "2"]
