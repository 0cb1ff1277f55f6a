"""Cohorts and folds: what is read, what is refused in one clear line, who is in which fold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import DataSetError
from models.slide_level.cohort import CohortSlide, read_cohort, write_cohort
from models.slide_level.folds import draw_folds
from models.slide_level.tasks import SLIDE_CLASSES, SlideLabel, SlideTask, class_of

HEAD = "slide,patient,overview,her2,ish,fold\n"


def cohort(folder: Path, *lines: str, head: str = HEAD) -> Path:
    (folder / "a.png").write_bytes(b"")
    (folder / "cohort.csv").write_text(head + "".join(f"{line}\n" for line in lines))
    return folder


def slides(count: int = 40, per_patient: int = 2) -> list[CohortSlide]:
    words = ("0", "1+", "2+", "3+")
    return [
        CohortSlide(
            slide=f"S{k}",
            patient=f"P{k // per_patient}",
            overview=Path("a.png"),
            label=SlideLabel(her2=words[k // per_patient % 4], ish="-"),
        )
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("label", "binary", "three", "four"),
    [
        (SlideLabel(her2="0"), 0, 0, 0),
        (SlideLabel(her2="1+"), 0, 1, 1),
        (SlideLabel(her2="2+", ish="-"), 0, 1, 2),
        (SlideLabel(her2="2+", ish="+"), 1, 2, 2),
        (SlideLabel(her2="3+"), 1, 2, 3),
        (SlideLabel(her2="2+"), None, None, 2),
        (SlideLabel(er="+"), None, None, None),
    ],
)
def test_classes_are_those_of_table_2(
    label: SlideLabel, binary: int | None, three: int | None, four: int | None
) -> None:
    found = [class_of(label, task) for task in list(SlideTask)[:3]]
    assert found == [binary, three, four]
    assert class_of(label, SlideTask.ER) == (1 if label.er else None)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("S1,P1,a.png,4+,,",), r"line 2: her2 '4\+' is none of 0, 1\+, 2\+, 3\+, or empty"),
        (("S1,P1,a.png,0,yes,",), r"line 2: ish 'yes' is none of \+, -, or empty"),
        (("S1,P1,b.png,0,,",), r"line 2: .*b\.png is missing"),
        (("S1,P1,a.png,0,,", "S1,P2,a.png,0,,"), "line 3: slide 'S1' is there twice"),
        (("S1,P1,a.png,0,,0", "S2,P1,a.png,0,,1"), "patient P1 is in fold 0 and in fold 1"),
        (("S1,P1,a.png,0,,0", "S2,P2,a.png,0,,"), "slide 'S2' has no fold, others have"),
        (("S1,P1,a.png,0,,²",), "line 2: fold '²' is no number"),
        (("S1,,a.png,0,,",), "line 2: no patient"),
        (("S1,P1,a.png,0,,0", "S2, P1 ,a.png,0,,1"), "patient P1 is in fold 0 and in fold 1"),
        (("S1,P1,a.png,0,,0", "S2,p1,a.png,0,,1"), "patients 'P1' and 'p1' differ in case alone"),
        (("S1,P1,a.png,0,,", "S1 ,P2,a.png,0,,"), "line 3: slide 'S1' is there twice"),
        (
            ("S1,Mu\u0308,a.png,0,,0", "S2,M\u00fc,a.png,0,,1"),
            "blanks, dashes or the code",
        ),
        (("S1,P 1,a.png,0,,0", "S2,P\u00a01,a.png,0,,1"), "differ in blanks, dashes or the code"),
        (("S1,P 1,a.png,0,,0", "S2,P  1,a.png,0,,1"), "differ in blanks, dashes or the code"),
        (("S1,P-1,a.png,0,,0", "S2,P\u20111,a.png,0,,1"), "differ in blanks, dashes or the code"),
        (("S1,P-1,a.png,0,,0", "S2,P\u22121,a.png,0,,1"), "differ in blanks, dashes or the code"),
        (("S1,P1,a.png,0,,0", "S2,P\u200b1,a.png,0,,1"), "differ in blanks, dashes or the code"),
        (('S1,P1,a.png,0,,,"note', "S2,P2,a.png,0,,", "S3,P3,a.png,0,,"), "line 2: .*quote"),
        (
            ("S1,P1,a.png,0,,", 'S2,P2,a.png,0,,,"a', "S3,P3,a.png,0,,", 'S4,P4,a.png,0,,,b"'),
            "line 3: a cell with a line break",
        ),
        (
            ('S1,P1,a.png,0,,,"a', "S2,P2,a.png,0,,", 'S3,P3,a.png,0,,,"b"'),
            "line 2: a cell with a line break",
        ),
        (('S1,P1,a.png,0,,,"a', 'S2,"P2",a.png,0,,', "S3,P3,a.png,0,,"), "line 2: a cell with a"),
        (('S1,"P\n1",a.png,0,,,a',), "line 2: a cell with a line break"),
        ((), "no rows"),
        ((",,,,,",), "no rows"),
    ],
)
def test_bad_tables_are_refused_in_one_line(
    tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataSetError) as problem:
        read_cohort(cohort(tmp_path, *lines))
    assert "\n" not in str(problem.value)
    assert "cohort.csv" in str(problem.value) and re.search(said, str(problem.value))


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no column patient, overview"):
        read_cohort(cohort(tmp_path, "S1,0", head="slide,her2\n"))
    with pytest.raises(DataSetError, match="no labels"):
        read_cohort(cohort(tmp_path, "S1,P1,a.png", head="slide,patient,overview\n"))


def test_columns_in_other_letters_are_refused(tmp_path: Path) -> None:
    """A column `Fold` was ignored, and folds were drawn."""
    for wrong, meant in (("Fold", "fold"), ("HER2", "her2"), ("Bag", "bag")):
        head = f"slide,patient,overview,er,{wrong}\n"
        with pytest.raises(DataSetError, match=f"column '{wrong}' is not read. Call it '{meant}'"):
            read_cohort(cohort(tmp_path, "S1,P1,a.png,+,", head=head))


def test_a_column_of_the_site_may_stand_beside_the_one_in_other_letters(tmp_path: Path) -> None:
    """It cannot be called `her2`, too."""
    head = "slide,patient,overview,HER2,her2\n"
    (found,) = read_cohort(cohort(tmp_path, "S1,P1,a.png,positive (site),3+", head=head))
    assert found.label.her2 == "3+"


@pytest.mark.parametrize("twice", ["patient", "her2"])
def test_a_column_that_is_read_and_is_there_twice_is_refused(twice: str, tmp_path: Path) -> None:
    """The last one won, unseen; of other columns it does not matter."""
    head = f"slide,patient,overview,her2, {twice} \n"
    with pytest.raises(DataSetError, match=f"columns '{twice}' and '{twice}' have one name"):
        read_cohort(cohort(tmp_path, "S1,P1,a.png,3+,0", head=head))
    head = "slide,note,patient,overview,her2,note\n"
    (found,) = read_cohort(cohort(tmp_path, "S1,a,P1,a.png,3+,b", head=head))
    assert (found.patient, found.label.her2) == ("P1", "3+")


@pytest.mark.parametrize(
    "rows",
    [
        ('S1,3+,"pale,P1,a.png', 'S2,0,5 mm",P2,a.png'),
        ('S1,3+,"pale,P1,a.png', 'S2,0,"",P2,a.png'),
        ('S1,3+,"one,', 'two, three, four, five",P1,a.png'),
    ],
)
def test_a_quote_that_ends_in_the_next_row_gives_no_row_its_patient(
    rows: tuple[str, ...], tmp_path: Path
) -> None:
    """S1 was of P2, and nothing told that S2 was gone."""
    path = cohort(tmp_path, *rows, "S3,0,x,P3,a.png", head="slide,her2,note,patient,overview\n")
    said = "line 2: a cell with a line break, which is read or may hold rows that a quote took"
    with pytest.raises(DataSetError, match=said):
        read_cohort(path)


@pytest.mark.parametrize(
    "note", ['"Tumor" margin', '"Tumor" ', '"two\nlines, one mark"', '5" lens', '"x \\"y\\" z"']
)
def test_quotes_and_lines_of_a_remark_are_its_own(note: str, tmp_path: Path) -> None:
    rows = (f"S1,P1,a.png,3+,{note}", '"S2" ,"P2" ,a.png,0,')
    found = read_cohort(cohort(tmp_path, *rows, head="slide,patient,overview,her2,note\n"))
    assert [(s.slide, s.patient, s.label.her2) for s in found] == [
        ("S1", "P1", "3+"),
        ("S2", "P2", "0"),
    ]


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "sep=; \n"])
def test_the_line_by_which_a_spreadsheet_names_its_delimiter_is_passed_over(
    first: str, tmp_path: Path
) -> None:
    head = f"{first}slide;patient;overview;her2\n"
    (found,) = read_cohort(cohort(tmp_path, "S1;P1;a.png;3+", head=head))
    assert (found.slide, found.label.her2) == ("S1", "3+")
    with pytest.raises(DataSetError, match="line 4: her2 'x' is none of"):
        read_cohort(cohort(tmp_path, "S1;P1;a.png;3+", "S2;P1;a.png;x", head=head))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252"])
def test_a_table_in_another_encoding_is_told_how_to_be_saved(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    name = "P1" if encoding == "utf-16-le" else "Müller"
    table = f"slide,patient,overview,her2\nS1,{name},a.png,0\n"
    (tmp_path / "cohort.csv").write_bytes(table.encode(encoding))
    with pytest.raises(DataSetError, match=r"cohort\.csv: .*Save it as CSV UTF-8"):
        read_cohort(tmp_path)


@pytest.mark.parametrize("note", ['"note;a;b;c;d;e;f"', "note;a;b;c;d;e;f", '"a;er;b;c;d;e;f"'])
def test_semicolons_in_the_name_of_a_column_part_no_table_with_commas(
    note: str, tmp_path: Path
) -> None:
    head = f"slide,patient,overview,her2,{note}\n"
    (found,) = read_cohort(cohort(tmp_path, "S1,P1,a.png,3+,x;y", head=head))
    assert (found.slide, found.label.her2) == ("S1", "3+")


def test_commas_in_the_name_of_a_column_part_no_table_with_semicolons(tmp_path: Path) -> None:
    head = "slide;patient;overview;her2;note,a,b,c,d,e\n"
    (found,) = read_cohort(cohort(tmp_path, "S1;P1;a.png;3+;x,y", head=head))
    assert (found.slide, found.label.her2) == ("S1", "3+")


def test_rows_without_any_cell_are_left_out(tmp_path: Path) -> None:
    """Spreadsheets write them below a table."""
    found = read_cohort(cohort(tmp_path, "S1,P1,a.png,0,,", ",,,,,", ",,,,,"))
    assert [slide.slide for slide in found] == ["S1"]


def test_a_bag_of_two_slides_is_refused(tmp_path: Path) -> None:
    head = "slide,patient,overview,her2,bag\n"
    lines = ("S1,P1,a.png,0,a.png", "S2,P2,a.png,3+,./a.png")
    with pytest.raises(DataSetError, match=r"a\.png is named for the slides 'S1' and 'S2'"):
        read_cohort(cohort(tmp_path, *lines, head=head))


def test_a_cohort_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    given = [replace(s, overview=tmp_path / "a.png", run="3", fold=1) for s in slides(6)]
    given[0] = replace(given[0], truth=SlideLabel(her2="1+"), bag=tmp_path / "a.png")
    write_cohort(tmp_path, given)
    assert read_cohort(tmp_path) == given


@pytest.mark.parametrize("task", [SlideTask.BINARY, SlideTask.FOUR_WAY])
def test_folds_part_patients_and_hold_each_class(task: SlideTask) -> None:
    given = slides(160)
    folds = draw_folds(given, task, folds=10, seed=3)
    assert sorted(s.slide for f in folds for s in f.test) == sorted(s.slide for s in given)
    for fold in folds:
        parts = [{s.patient for s in part} for part in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 80
        assert [len(part) for part in parts] == [64, 8, 8]
        assert {class_of(s.label, task) for s in fold.test} == set(range(len(SLIDE_CLASSES[task])))
    assert draw_folds(given, task, folds=10, seed=3) == folds
    assert draw_folds(given, task, folds=10, seed=4) != folds


def test_a_cohorts_own_folds_are_used() -> None:
    own = [replace(s, fold=10 + int(s.patient[1:]) % 4) for s in slides()]
    folds = draw_folds(own, SlideTask.FOUR_WAY)
    assert [{s.fold for s in fold.test} for fold in folds] == [{10}, {11}, {12}, {13}]


def test_classes_and_patients_that_are_missing_are_told() -> None:
    with pytest.raises(DataSetError, match="no slide of class 'negative' for the task er"):
        draw_folds(slides(), SlideTask.ER)
    with pytest.raises(DataSetError, match="4 patients for 10 folds"):
        draw_folds(slides(8), SlideTask.FOUR_WAY)
