"""THE table of steps: which step takes a slide or case from one state to the next.

A step is claimed by the state it starts from, runs a plain function in a worker process and is
finished in one transaction. The functions take paths and settings and return artifact keys; they
never touch the ledger, so where they run is the executor's business. `appliance.line.dispatcher`
claims, submits and closes steps, in the order of these tables: what is nearest its end comes first.
The deadlines are for two cores without a GPU and the networks of the papers: a share at 10 MB/s is
read in 100 s per GiB, and L and M need some hours for a large slide.
"""

from __future__ import annotations

from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow
from appliance.line.bag_readers import bags_seconds
from appliance.line.case_steps import (
    finish_align,
    finish_analyze,
    finish_write,
    prepare_align,
    prepare_analyze,
    prepare_write,
)
from appliance.line.context import Step
from appliance.line.slide_steps import (
    finish_identify,
    finish_inspect,
    finish_read,
    prepare_identify,
    prepare_inspect,
    prepare_read,
)

CASE_STEPS: tuple[Step[CaseRow], ...] = (
    Step(
        name="write",
        subject="case",
        from_state=CaseState.SCORED,
        resource="cpu",
        run=prepare_write,
        finish=finish_write,
        deadline_s=1800.0,
        deadline_s_per_gib=1800.0,
    ),
    Step(
        name="analyze",
        subject="case",
        from_state=CaseState.ALIGNED,
        resource="gpu",
        run=prepare_analyze,
        finish=finish_analyze,
        deadline_s=3600.0,
        deadline_s_per_gib=4 * 3600.0,
        beside_s=bags_seconds,
    ),
    Step(
        name="align",
        subject="case",
        from_state=CaseState.READY,
        resource="cpu",
        run=prepare_align,
        finish=finish_align,
        deadline_s=1800.0,
        deadline_s_per_gib=600.0,
    ),
)
SLIDE_STEPS: tuple[Step[SlideRow], ...] = (
    Step(
        name="read",
        subject="slide",
        from_state=SlideState.INSPECTED,
        resource="gpu",
        run=prepare_read,
        finish=finish_read,
        deadline_s=3600.0,
        deadline_s_per_gib=4 * 3600.0,
        beside_s=bags_seconds,
    ),
    Step(
        name="inspect",
        subject="slide",
        from_state=SlideState.IDENTIFIED,
        resource="cpu",
        run=prepare_inspect,
        finish=finish_inspect,
        deadline_s=600.0,
        deadline_s_per_gib=600.0,
    ),
    Step(
        name="identify",
        subject="slide",
        from_state=SlideState.ARRIVED,
        resource="intake",
        run=prepare_identify,
        finish=finish_identify,
        deadline_s=60.0,
        deadline_s_per_gib=300.0,
    ),
)


def warm_up() -> None:
    """Do nothing. A process that is told to has loaded the libraries of the steps."""
