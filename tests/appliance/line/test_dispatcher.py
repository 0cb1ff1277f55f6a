"""The dispatcher against a worker that does as it is told: order, guards, and how steps end."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.identities import identified_as
from fixtures.receptors import register_receptors

from appliance.artifacts import require_usable
from appliance.delivery.frozen import signature
from appliance.domain import ER, HE, HER2, Identity, Pairing, QuarantineReason, SlideFacts, Stain
from appliance.errors import (
    CaseHeldError,
    LookAgainError,
    SlideError,
    SourceChangedError,
    StoppedError,
    TookTooLongError,
    WorkerDiedError,
    WorkerStartError,
    WorklistUnavailableError,
)
from appliance.intake.arrange import DAY_S
from appliance.intake.block import make_ready
from appliance.intake.scan import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import TRANSITIONS, CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow, params_of
from appliance.line.case_steps import AnalyzedCase
from appliance.line.child import Limits
from appliance.line.claiming import claim_work
from appliance.line.context import StepContext
from appliance.line.dispatcher import do_work
from appliance.line.outcomes import IdentifiedSlide, InspectedSlide, Outcome, ReadSlide, SlideRead
from appliance.line.site_trouble import folder_is_away
from appliance.line.steps import CASE_STEPS, SLIDE_STEPS
from appliance.operations.alert_causes import causes_of_ledger, held_by_site
from appliance.operations.audited import Word
from appliance.operations.retry import retry_subject
from appliance.operations.retry_word import retry
from appliance.settings.alerts import AlertKind
from appliance.settings.intake import Watch
from appliance.settings.settings import Settings
from appliance.slides.picture import SlidePicture
from appliance.words.say import say

WORD = Word(by="Meyer^Anna", why="label")
HE_NAME = "S26-1_A1_HE.svs"
HER2_ASSAY = Pairing(assay="her2", anatomy=HE, target=HER2, expected=True)


@dataclass
class Told:
    """Runs nothing: answers by the function's name, and keeps the calls."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    arguments: list[tuple[Any, ...]] = field(default_factory=list)

    def run(self, _limits: Limits, function: Callable[..., Any], *arguments: Any) -> Any:
        if function in (folder_is_away, require_usable):
            return function(*arguments)
        self.calls.append(function.__name__)
        self.arguments.append(arguments)
        answer = self.answers[function.__name__]
        if callable(answer):
            answer = answer(*arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer


def identified(path: Path, *_given: object) -> IdentifiedSlide:
    """Accession, block and stain as the name says."""
    accession, block, stain = path.stem.split("_")
    facts = SlideFacts(
        path=str(path),
        fingerprint=path.name,
        format="svs",
        width_px=1,
        height_px=1,
        mpp=0.25,
        level_count=1,
        is_dicom=False,
    )
    identity = Identity(accession=accession, block=block, stain=Stain(stain))
    return IdentifiedSlide(facts=facts, verdict=identified_as(identity), organ="", specimen="")


class Line:
    def __init__(self, folder: Path) -> None:
        self.scans = folder / "scans"
        self.scans.mkdir()
        (self.scans / "another.svs").touch()  # an empty folder is a share that is away
        self.settings = Settings(state_dir=folder, watch=Watch(folder=self.scans))
        self.ledger = Ledger(self.settings.ledger_url)
        self.now = 1000.0
        self.told = Told(
            {
                "identify_slide": identified,
                "inspect_slide": InspectedSlide(key="inspect/1", times=(), tissue_mm2=5.0),
                "read_slide": SlideRead(times=()),
                "align_case": Outcome(key="align/1", times=()),
                "analyze": AnalyzedCase(findings_key="findings/1", score="2+", review=[], times=()),
            }
        )
        self.context = StepContext(
            ledger=self.ledger,
            settings=self.settings,
            name="test",
            pairings=(HER2_ASSAY,),
            clock=lambda: self.now,
        )

    def arrive(self, *names: str) -> None:
        with self.ledger.transaction() as tx:
            for name in names:
                tx.advance(tx.add_slide(str(self.scans / name), 0.0), SlideState.ARRIVED, now=0.0)

    def look_again(self) -> None:
        """Let the wait pass after which a file that could not be read is looked at once more."""
        self.now += LookAgainError.wait_seconds + 1
        self.work()

    def work(self, steps: int = 20) -> None:
        for _ in range(steps):
            work = claim_work(self.context)
            if work is None:
                return
            do_work(self.context, self.told, work)

    def slide(self, number: int = 1) -> SlideRow:
        with self.ledger.transaction() as tx:
            row = tx.slide(number)
        assert row is not None
        return row

    def slides(self) -> list[SlideRow]:
        with self.ledger.transaction() as tx:
            return tx.slides()

    def case(self) -> CaseRow:
        with self.ledger.transaction() as tx:
            (row,) = tx.cases()
        return row

    def notes(self, subject: str) -> list[str]:
        with self.ledger.transaction() as tx:
            return [event.code for event in tx.events(subject) if event.kind == "note"]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.ledger.close()


def test_each_step_starts_where_the_lifecycle_has_an_arrow() -> None:
    steps = [*CASE_STEPS, *SLIDE_STEPS]
    assert len({step.name for step in steps}) == len({step.from_state for step in steps}) == 6
    for step in steps:
        assert any(old is step.from_state for old, _ in TRANSITIONS)
        assert step.deadline_s > 0


def test_what_is_nearest_its_end_comes_first(line: Line) -> None:
    line.told.answers["write"] = RuntimeError("not today")
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs", "S26-2_A1_HE.svs")
    line.work()
    assert line.told.calls == [
        *("identify_slide", "inspect_slide", "read_slide"),
        # Of a HER2 slide the second reader sees the whole; tiles are read with the case.
        *("identify_slide", "inspect_slide", "read_slide"),
        *("align_case", "analyze", "write"),
        *("identify_slide", "inspect_slide", "read_slide"),
    ]
    line.look_again()
    assert line.told.calls[-1] == "write"
    with line.ledger.transaction() as tx:
        assert [case.state for case in tx.cases()] == [CaseState.FAILED, CaseState.WAITING]
        failed = tx.cases()[0]
    reason = say("case", failed.reason, params_of(failed) | {"subject": failed.subject})
    assert reason == "RuntimeError: not today. See the log, then: tandem retry case-1"
    assert (failed.findings_key, failed.score) == ("findings/1", "2+")


def test_a_case_gets_the_slides_of_its_pairing(line: Line) -> None:
    line.told.answers["write"] = StoppedError("stop")
    line.arrive("S26-1_A1_HER2.svs", "S26-1_A1_HE.svs")
    with pytest.raises(StoppedError):
        line.work()
    assay, identity, he, ihc, *_ = line.told.arguments[line.told.calls.index("analyze")]
    assert assay == "her2"
    assert (identity.accession, identity.stain) == ("S26-1", HER2)
    assert he.facts.path.endswith("_HE.svs") and ihc.facts.path.endswith("_HER2.svs")
    # The claim is released at the next start, and the step is done again.
    assert (line.case().state, line.case().claimed_by) == (CaseState.SCORED, "test")


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (SlideError(QuarantineReason.DAMAGED, "tile 7"), "damaged", "tile 7"),
        (SlideError(QuarantineReason.NO_MPP), "no-mpp", ""),
        (ZeroDivisionError("odd"), "failed", "ZeroDivisionError: odd"),
    ],
)
def test_a_slide_that_cannot_be_used_is_set_aside(
    line: Line, error: Exception, reason: str, detail: str
) -> None:
    line.told.answers["inspect_slide"] = error
    line.arrive("S26-1_A1_HE.svs")
    line.work()
    line.look_again()
    row = line.slide()
    assert (row.state, row.reason, row.claimed_by) == (SlideState.QUARANTINED, reason, "")
    assert say("slide-detail", row.reason, params_of(row)) == detail


@pytest.mark.parametrize(
    "error",
    [
        SlideError(QuarantineReason.UNREADABLE, "a file of it is gone"),
        SlideError(QuarantineReason.DAMAGED, "tile 7"),
        OSError(5, "Input/output error"),
    ],
)
@pytest.mark.parametrize(
    "step", ["identify_slide", "inspect_slide", "read_slide", "align_case", "analyze"]
)
def test_what_could_not_be_read_for_a_moment_is_looked_at_once_more(
    line: Line, step: str, error: Exception
) -> None:
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    well = line.told.answers.get(step)
    line.told.answers[step] = error
    line.work()
    line.told.answers.pop(step)
    if well is not None:
        line.told.answers[step] = well
    line.look_again()
    assert line.case().score == "2+"
    with line.ledger.transaction() as tx:
        events = [e for s in ("slide-1", "slide-2", "case-1") for e in tx.events(s)]
    assert {e.reason for e in events if e.code == "try-again"} == {"look-again"}


def test_a_case_that_cannot_be_read_twice_is_set_aside(line: Line) -> None:
    line.told.answers["analyze"] = SlideError(QuarantineReason.UNREADABLE, "a file of it is gone")
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    assert line.case().state == CaseState.ALIGNED
    line.look_again()
    assert (line.case().state, line.case().reason) == (CaseState.FAILED, "step-failed")


def test_a_slide_that_is_there_for_the_scan_alone_does_not_come_back_for_ever(line: Line) -> None:
    path = line.scans / HE_NAME
    path.write_bytes(b"II")
    watch = Watch(folder=line.scans, stable_seconds=1, patience_seconds=1)
    scan = FolderScan(line.ledger, watch, line.settings.state_dir)
    line.told.answers["identify_slide"] = SlideError(QuarantineReason.VANISHED, "gone", str(path))

    def come_back(first: int) -> list[tuple[str, str]]:
        seen = []
        for turn in range(first, first + 6):
            for seconds in (0, 50, 99):
                scan.run(monotonic=100.0 * turn + seconds, now=line.now)
            line.work()
            line.look_again()
            (row,) = (row for row in line.slides() if row.path == str(path))
            seen.append((row.state, row.reason))
        return seen

    seen = come_back(0)
    assert seen == [("quarantined", "vanished")] * 3 + [("quarantined", "unreadable")] * 3
    path.write_bytes(b"II, another one")
    assert come_back(9) == seen
    scan.close()


def test_a_case_whose_slide_is_gone_names_it_and_leaves_other_results(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def align(anatomy: ReadSlide, target: ReadSlide, *_: object) -> Outcome:
        for slide in (anatomy, target):
            signature(Path(slide.facts.path))
        return Outcome(key="align/1", times=())

    other = Pairing(assay="er", anatomy=HE, target=ER, expected=True)
    register_receptors(monkeypatch)
    line.context = replace(line.context, pairings=(HER2_ASSAY, other))
    line.told.answers["align_case"] = align
    (line.scans / "copy").mkdir()
    for name in (HE_NAME, f"copy/{HE_NAME}", "S26-1_A1_ER.svs", "S26-1_A1_HER2.svs"):
        (line.scans / name).touch()
    line.arrive(HE_NAME)
    line.work()
    line.arrive(f"copy/{HE_NAME}", "S26-1_A1_ER.svs")
    line.work()
    (line.scans / HE_NAME).unlink()
    line.arrive("S26-1_A1_HER2.svs")
    line.work()
    line.look_again()
    with line.ledger.transaction() as tx:
        scored, failed = sorted(tx.cases(), key=lambda case: case.assay)
    assert (scored.assay, scored.score, scored.findings_key) == ("er", "2+", "findings/1")
    assert (failed.state, failed.reason) == (CaseState.FAILED, "slide-gone")
    told = say("case", failed.reason, params_of(failed) | {"subject": failed.subject})
    assert told.startswith("The file of slide-1 is gone. Put the file back")
    assert told.endswith(f"tandem retry {failed.subject}")


def test_no_tissue_is_a_reason_and_the_slide_can_be_looked_at(line: Line) -> None:
    line.told.answers["inspect_slide"] = InspectedSlide(key="inspect/1", times=(), tissue_mm2=0.0)
    line.arrive("S26-1_A1_HE.svs")
    line.work()
    row = line.slide()
    assert (row.state, row.reason) == (SlideState.QUARANTINED, QuarantineReason.NO_TISSUE)
    assert row.inspect_key == "inspect/1"


H_AND_E = InspectedSlide(
    key="inspect/1",
    times=(),
    tissue_mm2=5.0,
    picture=SlidePicture(kind="he", certainty=0.99, probabilities={"he": 0.99, "other": 0.01}),
)


def test_a_picture_of_another_stain_sets_the_slide_aside(line: Line) -> None:
    line.told.answers["inspect_slide"] = H_AND_E
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    assert line.slide(1).state == SlideState.READ
    row = line.slide(2)
    assert (row.state, row.reason) == (SlideState.QUARANTINED, QuarantineReason.WRONG_PICTURE)
    assert json.loads(row.picture) == {"kind": "he", "certainty": 0.99}
    assert "looks like an H&E slide" in say("slide-detail", row.reason, params_of(row))
    assert line.case().state == CaseState.WAITING


def test_a_persons_word_takes_precedence_over_the_picture(line: Line) -> None:
    line.told.answers["inspect_slide"] = H_AND_E
    line.arrive("S26-1_A1_HER2.svs")
    line.work()
    with line.ledger.transaction() as tx:
        row = tx.slide(1)
        assert row is not None
        row.said = json.dumps({"picture": "keep"})
        tx.advance(row, SlideState.ARRIVED, now=line.now, code="retry")
    line.work()
    assert line.slide(1).state == SlideState.READ


def test_a_delivered_case_lets_a_slide_go_that_cannot_be_identified_again(line: Line) -> None:
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    assert line.case().score
    with line.ledger.transaction() as tx:
        row = tx.slide(2)
        assert row is not None
        tx.advance(row, SlideState.ARRIVED, now=line.now, code="retry")
    line.told.answers["identify_slide"] = SlideError(QuarantineReason.DAMAGED, "it ends early")
    line.work()
    line.look_again()
    assert line.slide(2).reason == QuarantineReason.DAMAGED
    assert (line.case().state, line.case().score) == (CaseState.WAITING, "")


def test_one_section_twice_holds_the_case(line: Line) -> None:
    detail = {"detail": "their pixels agree by 0.99"}
    line.told.answers["analyze"] = CaseHeldError("same-section", detail)
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    row = line.case()
    assert (row.state, row.reason, row.claimed_by) == (CaseState.HELD, "same-section", "")
    assert "Both slides show the same section" in say("case", row.reason, params_of(row))


def test_a_contradiction_that_a_person_accepted_goes_to_the_step(line: Line) -> None:
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.told.answers["analyze"] = CaseHeldError("same-section", {"detail": "0.99"})
    line.work()
    with line.ledger.transaction() as tx:
        (case,) = tx.cases()
        case.overruled = json.dumps(["same-section"])
        tx.advance(case, CaseState.WAITING, now=line.now, code="retry")
        make_ready(tx, case, line.now)
    line.work()
    assert line.told.arguments[-1][-3] == ("same-section",)


def test_a_slide_that_kills_its_worker_is_tried_again_and_then_set_aside(line: Line) -> None:
    line.told.answers["inspect_slide"] = WorkerDiedError("the worker process died")
    line.arrive("S26-1_A1_HE.svs")
    line.work()
    waits = []
    for _ in range(5):
        row = line.slide()
        if row.state == SlideState.QUARANTINED:
            break
        waits.append(row.not_before - line.now)
        line.now = row.not_before
        line.work()
    assert waits == [10.0, 20.0]
    assert (row.reason, params_of(row)) == ("worker-killed", {"crashes": 3})
    assert line.notes("slide-1") == ["try-again"] * 2


def test_a_worklist_that_is_away_holds_the_case_with_one_note(line: Line) -> None:
    line.told.answers["write"] = WorklistUnavailableError("worklist: RIS is away")
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    for _ in range(4):
        line.work()
        line.now += 100
    row = line.case()
    assert (row.state, row.reason) == (CaseState.SCORED, "worklist-away")
    assert say("case", row.reason, params_of(row)) == "worklist: RIS is away"
    assert row.worker_crashes == 0 and line.notes("case-1") == ["try-again"]
    assert line.told.calls.count("write") == 4


def test_an_outcome_is_dropped_when_the_file_changed_meanwhile(line: Line) -> None:
    def changed(facts: SlideFacts, _settings: Settings) -> InspectedSlide:
        with line.ledger.transaction() as tx:
            row = tx.slide_of_path(facts.path)
            assert row is not None
            tx.advance(row, SlideState.ARRIVING, now=line.now, code="file-changed")
        return InspectedSlide(key="inspect/old", times=(), tissue_mm2=5.0)

    line.told.answers["inspect_slide"] = changed
    line.arrive("S26-1_A1_HE.svs")
    line.work()
    row = line.slide()
    assert (row.state, row.inspect_key, row.claimed_by) == (SlideState.ARRIVING, "", "")


def test_a_case_that_a_rescan_reopened_meanwhile_takes_no_result(line: Line) -> None:
    def reopened(*_arguments: Any) -> AnalyzedCase:
        with line.ledger.transaction() as tx:
            (case,) = tx.cases()
            tx.advance(case, CaseState.WAITING, now=line.now, code="came-anew")
        return AnalyzedCase(findings_key="findings/old", score="0", review=[], times=())

    line.told.answers["analyze"] = reopened
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    row = line.case()
    assert (row.state, row.findings_key, row.claimed_by) == (CaseState.WAITING, "", "")


def try_again(settings: Settings, subject: str) -> str:
    """Try a slide again as the dashboard does."""
    return retry(settings, subject, WORD)


def test_a_slide_error_of_a_case_keeps_sentence_and_remedy(line: Line) -> None:
    line.told.answers["analyze"] = SlideError(QuarantineReason.DAMAGED, "tile 7")
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    line.look_again()
    row = line.case()
    assert row.state == CaseState.FAILED
    assert say("case", row.reason, params_of(row) | {"subject": row.subject}) == (
        "SlideError: The file opens but a part of its pixels cannot be decoded. (tile 7) Copy or "
        "scan the slide again. See the log, then: tandem retry case-1"
    )


def test_organ_and_specimen_are_kept_at_identify(line: Line) -> None:
    def found(path: Path, *_given: object) -> IdentifiedSlide:
        return replace(identified(path), organ="gastric", specimen="biopsy")

    line.told.answers["identify_slide"] = found
    line.arrive("S26-1_A1_HE.svs")
    line.work(1)
    assert (line.slide().organ, line.slide().specimen) == ("gastric", "biopsy")


def test_a_ready_case_waits_again_when_a_slide_of_it_changed(line: Line) -> None:
    """The scan empties the fingerprint of a changed file: nothing is read under an empty one."""
    line.told.answers["analyze"] = StoppedError("stop")
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    with pytest.raises(StoppedError):
        line.work()
    with line.ledger.transaction() as tx:
        tx.release_claims()
        slide = tx.slide(1)
        assert slide is not None
        slide.fingerprint = ""
        tx.advance(slide, SlideState.ARRIVING, now=line.now)
    line.told.calls.clear()
    line.work()
    assert line.told.calls == []
    assert (line.case().state, line.case().claimed_by) == (CaseState.WAITING, "")


def test_a_case_whose_slide_changed_during_its_analysis_takes_no_result(line: Line) -> None:
    def changed(*_arguments: Any) -> AnalyzedCase:
        with line.ledger.transaction() as tx:
            slide = tx.slide(1)
            assert slide is not None
            slide.fingerprint = ""
            tx.advance(slide, SlideState.ARRIVING, now=line.now, code="file-changed")
        return AnalyzedCase(findings_key="findings/old", score="3+", review=[], times=())

    line.told.answers["analyze"] = changed
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    case = line.case()
    assert (case.state, case.reason) == (CaseState.WAITING, "slide-changed")
    assert (case.score, case.findings_key) == ("", "")


def test_a_case_follows_the_stains_that_its_assay_pairs_now(line: Line) -> None:
    line.told.answers["analyze"] = StoppedError("stop")
    line.arrive("S26-1_A1_HE.svs")
    line.work()
    new = Pairing(assay="her2", anatomy=HE, target=Stain("HER2B"), expected=True)
    line.context = replace(line.context, pairings=(new,))
    line.arrive("S26-1_A1_HER2B.svs")
    line.work()
    # Ready, and refused: the assay that is installed here pairs HER2.
    case = line.case()
    assert (case.target, case.state) == ("HER2B", CaseState.FAILED)
    assert "pairs other stains" in case.params


def test_a_folder_that_is_away_blames_no_slide(line: Line) -> None:
    line.told.answers["identify_slide"] = SlideError(QuarantineReason.UNREADABLE)
    line.arrive("S26-1_A1_HE.svs")
    away = line.scans.with_name("away")
    line.scans.rename(away)
    for _ in range(3):
        line.work()
        line.now += 20
    assert (line.slide().state, line.notes("slide-1")) == (SlideState.ARRIVED, ["try-again"])
    line.scans.mkdir()  # the bare mount point
    line.work()
    assert line.slide().state == SlideState.ARRIVED
    line.scans.rmdir()
    away.rename(line.scans)
    line.now += 20
    line.work()
    line.look_again()
    assert (line.slide().state, line.slide().reason) == (SlideState.QUARANTINED, "unreadable")


@pytest.mark.parametrize("err", [TookTooLongError("long"), WorkerDiedError("died")])
def test_a_step_that_hangs_on_a_share_that_is_away_is_not_counted(
    line: Line, err: Exception
) -> None:
    line.told.answers["identify_slide"] = err
    line.arrive("S26-1_A1_HE.svs")
    line.scans.rename(line.scans.with_name("away"))
    for _ in range(5):
        line.work()
        line.now += 100
    assert line.slide().state == SlideState.ARRIVED
    assert (line.slide().worker_crashes, line.slide().step_tries) == (0, 0)


def test_a_step_that_takes_too_long_twice_sets_the_slide_aside(line: Line) -> None:
    line.told.answers["identify_slide"] = TookTooLongError("The step took longer than 60 s.")
    line.arrive("S26-1_A1_HE.svs")
    (line.scans / "S26-1_A1_HE.svs").touch()
    for _ in range(3):
        line.work()
        line.now += 100
    row = line.slide()
    assert (row.state, row.reason) == (SlideState.QUARANTINED, "took-too-long")
    assert line.told.calls.count("identify_slide") == 2
    assert "60 s" in say("slide-detail", row.reason, params_of(row))
    assert retry_subject(line.settings, "slide-1")
    assert line.slide().step_tries == 0


def test_a_case_that_left_its_state_and_came_back_takes_no_result(line: Line) -> None:
    """A rescan came during the alignment, and was read before it ended (several GPUs)."""

    def rescanned(*_: Any) -> Outcome:
        with line.ledger.transaction() as tx:
            (case,) = tx.cases()
            tx.advance(case, CaseState.WAITING, now=line.now + 1, code="came-anew")
            tx.advance(case, CaseState.READY, now=line.now + 2)
        return Outcome(key="align/old", times=())

    line.told.answers["align_case"] = rescanned
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    for _ in range(9):
        work = claim_work(line.context)
        assert work is not None
        do_work(line.context, line.told, work)
        if work.step.name == "align":
            break
    assert (line.case().state, line.case().score, line.case().claimed_by) == ("ready", "", "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_holds_case_and_slide(line: Line, number: int) -> None:
    full = OSError(number, "No space left on device")
    line.told.answers["analyze"] = full
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work()
    assert (line.case().state, line.case().reason) == (CaseState.ALIGNED, "disk-full")
    assert "Make room" in say("case", line.case().reason, params_of(line.case()))
    line.told.answers["inspect_slide"] = full
    line.arrive("S26-2_A1_HE.svs")
    line.work()
    assert line.slide(3).state == SlideState.IDENTIFIED


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_state_folder_that_takes_no_results_blames_no_slide(line: Line, number: int) -> None:
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    line.work(6)
    # No rights keep root from a folder; a file in its place refuses everyone.
    shutil.rmtree(line.settings.artifacts_dir, ignore_errors=True)
    line.settings.artifacts_dir.write_bytes(b"")
    reads, line.told.answers["align_case"] = line.told.answers["read_slide"], OSError(number, "no")
    line.told.answers["read_slide"] = OSError(number, "no")
    line.arrive(*[f"S26-{n}_A1_HE.svs" for n in range(2, 7)])
    for _ in range(3):
        line.work()
        line.now += 20
    with line.ledger.transaction() as tx:
        held = {(row.state, row.reason) for row in tx.slides() if row.state != SlideState.READ}
        assert held == {(SlideState.INSPECTED, "state-unusable")}
        assert held_by_site(tx) == ["state-unusable"]
        case = tx.cases()[0]
    assert (case.state, case.reason) == (CaseState.READY, "state-unusable")
    assert "rights of the state folder" in say("case", case.reason, params_of(case))
    assert line.notes("slide-3") == ["try-again"]
    line.settings.artifacts_dir.unlink()
    line.told.answers |= {"read_slide": reads, "align_case": Outcome(key="align/1", times=())}
    line.work()
    with line.ledger.transaction() as tx:
        assert tx.cases()[0].score == "2+"
        assert {row.state for row in tx.slides()} == {SlideState.READ}


def test_a_process_that_cannot_be_started_is_the_sites_and_told(line: Line) -> None:
    line.told.answers["read_slide"] = WorkerStartError("A worker process ended with code 1.")
    line.arrive("S26-1_A1_HE.svs")
    for _ in range(5):
        line.work()
        line.now += 20
    assert (line.slide().state, line.slide().reason) == (SlideState.INSPECTED, "worker-start")
    with line.ledger.transaction() as tx:
        (cause,) = causes_of_ledger(tx, line.settings, line.now)
    assert (cause.key, cause.kind) == ("worker-start", AlertKind.SITE)
    assert "log" in cause.sentence


SLOW = TookTooLongError("The step took longer than 60 s.")
ODD = SlideError(QuarantineReason.UNREADABLE, "a file of it is gone")


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([RuntimeError("odd"), SLOW], ""),
        ([SLOW, ODD], ""),
        ([RuntimeError("odd"), SLOW, SLOW], "took-too-long"),
        ([SLOW, ODD, SLOW], "took-too-long"),
        ([SLOW, ODD, ODD], "unreadable"),
        ([ODD, WorkerDiedError("died"), ODD], "unreadable"),
    ],
)
def test_attempts_past_the_deadline_and_a_second_look_are_counted_apart(
    line: Line, errors: list[Exception], reason: str
) -> None:
    left, done = list(errors), line.told.answers["read_slide"]
    line.told.answers["read_slide"] = lambda *_: left.pop(0) if left else done
    line.arrive("S26-1_A1_HE.svs")
    (line.scans / "S26-1_A1_HE.svs").touch()
    for _ in range(6):
        line.work()
        line.now += 100
    state = SlideState.QUARANTINED if reason else SlideState.READ
    assert (line.slide().state, line.slide().reason, left) == (state, reason, [])


SHORT_OF = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EMFILE, "Too many open files"),
]


@pytest.mark.parametrize("error", SHORT_OF, ids=str)
@pytest.mark.parametrize("step", ["inspect_slide", "analyze"])
def test_a_machine_that_is_short_of_memory_for_a_while_blames_no_slide(
    line: Line, step: str, error: Exception
) -> None:
    well, line.told.answers[step] = line.told.answers[step], error
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    for _ in range(5):
        line.work()
        line.now += 61
    row = line.case() if step == "analyze" else line.slide()
    assert row.reason == "machine-short" and line.notes(row.subject) == ["try-again"]
    with line.ledger.transaction() as tx:
        assert set(held_by_site(tx)) == {"machine-short"}
    line.told.answers[step] = SLOW  # each kind is counted alone
    line.work()
    line.told.answers[step] = well
    line.now += 61
    line.work()
    assert line.case().score == "2+" and line.slide().state == SlideState.READ
    assert line.slide().step_tries == 0


def test_a_slide_that_always_needs_more_memory_than_there_is_is_set_aside(line: Line) -> None:
    line.told.answers["inspect_slide"] = MemoryError()
    line.arrive("S26-1_A1_HE.svs")
    for _ in range(32):
        assert line.slide().state != SlideState.QUARANTINED
        line.work()
        line.now += 61
    assert (line.slide().state, line.slide().reason) == (SlideState.QUARANTINED, "failed")


def test_a_case_that_is_slow_once_is_looked_at_once_more(line: Line) -> None:
    left, done = [SLOW, ODD], line.told.answers["analyze"]
    line.told.answers["analyze"] = lambda *_: left.pop(0) if left else done
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    for _ in range(4):
        line.work()
        line.now += 100
    assert (line.case().score, line.case().step_tries) == ("2+", 0)


@pytest.mark.parametrize(
    ("step", "again"),
    [("read_slide", retry_subject), ("analyze", retry_subject), ("read_slide", try_again)],
)
def test_a_file_that_is_touched_at_each_read_is_set_aside(
    line: Line, step: str, again: Callable[[Settings, str], str]
) -> None:
    """An hourly chown -R, or a snapshot by hard links: the bytes stay, and reading never ends."""
    path = str(line.scans / "S26-1_A1_HE.svs")

    def touched(slide: ReadSlide | str, *_: object) -> object:
        if step == "read_slide" and isinstance(slide, ReadSlide) and slide.facts.path != path:
            return SlideRead(times=())
        raise SourceChangedError(path)

    def work(turns: int) -> int:
        """Let the scan find the file whole again after each turn; return how often it did."""
        found = 0
        for _ in range(turns):
            line.work()
            line.now += 4000
            with line.ledger.transaction() as tx:
                row = tx.slide(1)
                assert row is not None
                if row.state == SlideState.ARRIVING:
                    found += 1
                    row.size_bytes, row.modified_ns = 5, 7
                    tx.advance(row, SlideState.ARRIVED, now=line.now)
        return found

    well, line.told.answers[step] = line.told.answers[step], touched
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    assert work(10) == 3
    row = line.slide()
    assert (row.state, row.reason) == (SlideState.QUARANTINED, "file-touched")
    assert (row.size_bytes, row.modified_ns) == (5, 7)  # to the scan it is the same file
    assert say("slide-detail", row.reason, params_of(row)) == "3 times"
    assert line.case().state == CaseState.WAITING
    assert again(line.settings, "slide-1")
    assert work(1) == 1  # counted from the person's word on
    line.told.answers[step] = well
    work(3)
    assert line.case().score == "2+"


def test_a_file_that_is_another_one_each_time_is_read_each_time(line: Line) -> None:
    copies = iter(range(100))

    def another(path: Path, *_: object) -> IdentifiedSlide:
        found = identified(path)
        return replace(found, facts=replace(found.facts, fingerprint=f"copy {next(copies)}"))

    line.told.answers["identify_slide"] = another
    line.told.answers["read_slide"] = lambda slide, *_: SourceChangedError(slide.facts.path)
    line.arrive("S26-1_A1_HE.svs")
    for _ in range(8):
        line.work()
        line.now += 4000
        with line.ledger.transaction() as tx:
            row = tx.slide(1)
            assert row is not None
            assert row.state == SlideState.ARRIVING
            tx.advance(row, SlideState.ARRIVED, now=line.now)


def test_an_older_scan_takes_the_place_of_a_touched_slide_of_a_case(line: Line) -> None:
    def of_day(path: Path, *_: object) -> IdentifiedSlide:
        found = identified(path)
        day = 1 if path.parent.name == "former" else 2
        facts = replace(found.facts, fingerprint=str(path))
        return replace(found, facts=facts, scanned_at=DAY_S * day + 60)

    line.now += 3 * DAY_S  # both days are past
    newer = str(line.scans / "S26-1_A1_HE.svs")
    well, touched = line.told.answers["analyze"], SourceChangedError(newer)
    line.told.answers["identify_slide"] = of_day
    line.told.answers["analyze"] = lambda *given: touched if given[2].facts.path == newer else well
    line.arrive("S26-1_A1_HE.svs", "former/S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    with line.ledger.transaction() as tx:
        for row in tx.slides():
            row.created_at = line.now
    for _ in range(4):
        line.work()
        line.now += 4000
        with line.ledger.transaction() as tx:
            row = tx.slide(1)
            if row is not None and row.state == SlideState.ARRIVING:
                tx.advance(row, SlideState.ARRIVED, now=line.now)
    assert (line.slide(1).state, line.slide(1).reason) == (SlideState.QUARANTINED, "file-touched")
    assert line.slide(2).state == SlideState.READ
    assert line.case().score == "2+"


def test_a_case_of_another_file_has_its_attempts_anew(line: Line) -> None:
    path = str(line.scans / "S26-1_A1_HE.svs")
    left: list[Exception] = [WorkerDiedError("died"), SLOW, SourceChangedError(path)]
    line.told.answers["analyze"] = lambda *_: left.pop(0)
    line.arrive("S26-1_A1_HE.svs", "S26-1_A1_HER2.svs")
    for _ in range(3):
        line.work()
        line.now += 100
    row = line.case()
    assert (row.state, row.reason, left) == (CaseState.WAITING, "slide-changed", [])
    assert (row.worker_crashes, row.step_tries, row.not_before) == (0, 0, 0.0)
