"""Order of the scans of a block, as a function of facts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import HE, HER2
from appliance.intake.arrange import DAY_S, Scan, Standing, is_newer, standings
from appliance.slides.scan_time import UNKNOWN

TIMES = st.sampled_from([UNKNOWN, 0.0, DAY_S, DAY_S + 1, DAY_S + 2, 2 * DAY_S, 2 * DAY_S + 1])
SCANS = st.lists(
    st.builds(
        Scan,
        slide_id=st.integers(1, 50),
        stain=st.sampled_from([HE, HER2]),
        scanned_at=TIMES,
        passed=st.booleans(),
        came_at=st.sampled_from([1.0, 2.0, 4.0, 5.0, 7.0]),
        chosen_at=st.sampled_from([0.0, 0.0, 0.0, 3.0, 6.0]),
    ),
    max_size=7,
    unique_by=lambda scan: scan.slide_id,
)


def scan(number: int, day: int, time_s: float = 0.0, *, passed: bool = True) -> Scan:
    at = day * DAY_S + time_s
    return Scan(slide_id=number, stain=HE, scanned_at=at, passed=passed, came_at=float(number))


def stand(*scans: Scan) -> Standing:
    return standings(scans)[HE]


def test_the_newer_scan_stands_once_it_passed_inspection() -> None:
    old, new = scan(1, 3, 60.0), scan(2, 4)
    assert stand(old, new) == Standing(place=2, replaced={1: 2})
    assert stand(old, replace(new, passed=False)) == Standing(place=1, coming=(2,))


def test_the_time_of_a_day_decides_where_both_headers_tell_it() -> None:
    assert stand(scan(1, 3, 60.0), scan(2, 3, 120.0)).place == 2
    assert stand(scan(1, 3), scan(2, 3, 120.0)).rivals == (1, 2)
    assert stand(scan(1, 3), scan(2, 3)) == Standing(rivals=(1, 2))


def test_a_scan_whose_day_is_not_certain_is_a_rival_of_any_other() -> None:
    unknown = replace(scan(2, 3), scanned_at=UNKNOWN)
    assert stand(scan(1, 3), unknown, scan(3, 4)) == Standing(rivals=(2, 3), replaced={1: 3})
    assert stand(unknown, replace(unknown, slide_id=5)).rivals == (2, 5)
    # A day before 1970 in the ledger of an earlier edition is known.
    assert stand(scan(1, 3), replace(scan(2, 3), scanned_at=-DAY_S)).place == 1
    assert stand(scan(1, 3), replace(unknown, chosen_at=10.0)) == Standing(place=2, replaced={1: 2})


def test_a_choice_counts_for_the_scans_that_were_there() -> None:
    chosen = replace(scan(1, 3), chosen_at=10.0)
    assert stand(chosen, scan(2, 4)) == Standing(place=1, replaced={2: 1})
    later = replace(scan(3, 5), came_at=20.0)
    assert stand(chosen, scan(2, 4), later) == Standing(place=3, replaced={2: 1, 1: 3})
    waiting = replace(chosen, passed=False)
    assert stand(waiting, scan(2, 4)) == Standing(place=2, coming=(1,))
    again = replace(scan(2, 4), chosen_at=11.0, passed=False)
    assert stand(chosen, again) == Standing(place=1, coming=(2,))


@given(SCANS, st.randoms())
def test_the_order_of_the_facts_does_not_matter(scans: list[Scan], dice: object) -> None:
    shuffled = list(scans)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert standings(scans) == standings(shuffled)


@given(SCANS)
def test_each_scan_has_one_standing(scans: list[Scan]) -> None:
    for stain, found in standings(scans).items():
        mine = {each.slide_id: each for each in scans if each.stain == stain}
        stands = ([found.place] if found.place else []) + list(found.rivals)
        named = [*stands, *found.coming, *found.replaced]
        assert sorted(named) == sorted(mine)
        assert bool(stands) == any(each.passed for each in mine.values())
        assert len(found.rivals) != 1
        for old, new in found.replaced.items():
            assert mine[new].passed
            assert mine[new].chosen_at or is_newer(mine[new], mine[old])
        for one in stands:
            unbeaten = [each for each in mine.values() if each.slide_id in stands]
            newer = [each for each in unbeaten if is_newer(each, mine[one])]
            assert all(each.came_at <= mine[one].chosen_at for each in newer)
