"""Part of Today: what is under way with the time left, and arrivals against deliveries."""

from __future__ import annotations

from dashboard.flow import Flow, Stage
from dashboard.views import look
from dashboard.wording import STEP_WORDS, about

NO_RATE = "no rate yet"


def flow_markup(flow: Flow) -> str:
    """Return both parts side by side, as markup."""
    return f'<div class="td-card td-flow"><div>{_stages(flow)}</div><div>{_chart(flow)}</div></div>'


def _stages(flow: Flow) -> str:
    rows = [_cells(stage, flow) for stage in flow.stages if stage.number]
    total = ""
    if rows:
        said = NO_RATE if flow.left_s is None else about(flow.left_s)
        if not flow.alive:
            said = "not while the appliance stands"
        total = (
            '<div class="small">Until all of it is written, and the cases that these slides begin: '
            f'<b data-testid="left">{said}</b>. <span class="muted">By the mean duration of the '
            "newest steps of the last seven days; slides of another size take another time.</span>"
            "</div>"
        )
    table = look.table(
        ("Next step", "Number>", "At work>", "Each takes>", "Time left>"),
        rows,
        "Nothing is under way.",
    )
    return f"<h2>Under way</h2>{table}{total}"


def _cells(stage: Stage, flow: Flow) -> tuple[str, ...]:
    takes, left = NO_RATE, NO_RATE
    if stage.mean_s is not None:
        takes = f"{stage.mean_s:.0f} s" if stage.mean_s < 90 else f"{stage.mean_s / 60:.0f} min"
        takes = f'<span title="Mean of the newest {stage.measured}">{takes}</span>'
    if stage.left_s is not None:
        left = about(stage.left_s)
    elif not flow.alive:
        left = "–"
    return STEP_WORDS[stage.step], str(stage.number), str(stage.at_work), takes, left


def _chart(flow: Flow) -> str:
    arrived = sum(hour.arrived for hour in flow.hours)
    delivered = sum(hour.delivered for hour in flow.hours)
    most = max((max(hour.arrived, hour.delivered) for hour in flow.hours), default=0)
    came = f"{arrived} slide{'' if arrived == 1 else 's'} arrived"
    went = f"{delivered} case{'' if delivered == 1 else 's'} delivered"
    told = f"{came}, {went}; at most {most} in an hour"
    columns = "".join(
        f'<div title="slides arrived: {hour.arrived}, cases delivered: {hour.delivered}">'
        f'<span class="came" style="height: {_percent(hour.arrived, most)}%"></span>'
        f'<span class="went" style="height: {_percent(hour.delivered, most)}%"></span></div>'
        for hour in flow.hours
    )
    first, last = look.hour(flow.hours[0].at), look.hour(flow.hours[-1].at)
    return (
        f'<h2>The last {len(flow.hours)} hours</h2><div class="td-chart" role="img" '
        f'aria-label="By the hour: {told}.">{columns}</div>'
        f'<div class="td-axis small muted"><span>{first}</span><span>{last}</span></div>'
        f'<div class="small"><span class="td-key came"></span>{came} '
        f'<span class="td-key went"></span>{went}</div>'
    )


def _percent(number: int, most: int) -> int:
    return round(100 * number / most) if most else 0
