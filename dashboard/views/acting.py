"""Buttons and dialogs of the actions, done by who is signed in; each says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import escape

import streamlit as st

from appliance.findings.findings import Findings
from appliance.ledger.heartbeat import life
from appliance.ledger.lifecycle import CaseState
from appliance.operations.seen import NO_RESULT, result_name
from appliance.operations.users import Role
from dashboard import actions
from dashboard.access import of_server
from dashboard.actions import Answer, Person
from dashboard.assay_facts import assay_of
from dashboard.guard import is_own_machine
from dashboard.lines import SlideLine
from dashboard.queries import CaseDetail, read_subjects
from dashboard.troubles import TroubleGroup
from dashboard.views import look
from dashboard.views.both import NOT_SHOWN, show_both
from dashboard.wording import stain_word

PERSON, TOLD, GROUP, SHOWN, DONE = "person", "told", "group", "shown", "done"
"""Keys of the session: the name that was given last, what the last action did, the trouble of
which all is to be tried again, the slide whose forms are shown, with its name (`seen`), and how
many actions were carried out."""
BOTH, OFFERED = "both", "offered"
"""Keys of the session: slides that are shown or offered for a pair, with their names."""
NAME_HELP = "As DICOM writes names: Meyer^Anna. It is kept with the action, and in the report."


def may_act(needed: Role = Role.OPERATOR) -> bool:
    """Return whether actions are offered: by role, or where nobody else reaches the server.

    Never on a screen with hidden names: forms and answers name slides and cases.
    """
    return not look.names_hidden() and may_see(needed)


def may_see(needed: Role) -> bool:
    """Return whether a role's pages are shown: by role, or where nobody else reaches the server."""
    if (access := of_server()) is not None and access.required:
        user = look.user()
        return user is not None and user.role.covers(needed)
    return is_own_machine(st.get_option("server.address"))


def off() -> None:
    """Say that actions are off, and why."""
    if look.names_hidden():
        look.block(
            '<div class="muted small">Names are hidden on this screen, so nothing can be done '
            'here: <a href="access/names" target="_self">show them</a> first.</div>'
        )
        return
    user = look.user()
    why = (
        f"Your role, {user.role}, sees and does not act."
        if user
        else "Actions are off: this dashboard is reached from other machines and has no login. Use "
        "tandem confirm, correct, rerun and identify."
    )
    look.block(f'<div class="muted small">{escape(why)}</div>')


def told() -> None:
    """Say what the last action did, once; and that it waits, where no appliance runs."""
    if text := st.session_state.pop(TOLD, ""):
        if not life(look.settings()).alive:
            text = f"{text}. The appliance does not run: this waits until it is started."
        look.block(f'<div class="td-said" role="status">{escape(text)}</div>')


def case_buttons(detail: CaseDetail, findings: Findings | None) -> None:
    """Show the four actions on a result, each where it can be taken.

    `findings` is None without any, and where this build does not read them. The keys of buttons
    name the result or the hold: a press that comes when the case has another one by now opens no
    form, and the page is drawn anew.
    """
    case = detail.case
    ended = actions.has_result(case.state)
    signable = ended and findings is not None and may_act(Role.PATHOLOGIST)
    assay = assay_of(case.assay)
    subject, seen = f"case-{case.id}", detail.findings_key
    shown = result_name(seen)
    wait = None if ended else "The case is under way; its state beside the score says how far."
    with st.container(horizontal=True, gap="small", key="actions"):
        signs = signable and case.score
        if st.button("Confirm", f"confirm-{shown}", type="primary", disabled=not signs, help=wait):
            _confirm(subject, case.score, seen)
        scores = () if assay is None else tuple(assay.scores)
        if st.button("Correct", f"correct-{shown}", disabled=not signable or not scores, help=wait):
            _correct(subject, case.score, scores, seen)
        if st.button("Cannot score", f"cannot-{shown}", disabled=not signable, help=wait):
            _cannot_score(subject, seen)
        undone = actions.undone_by_rerun(look.settings(), look.ledger(), case.id, findings)
        failed = case.state == CaseState.FAILED
        why_not = None if failed else wait
        if undone and not may_act(Role.PATHOLOGIST):
            why_not = f"{undone} It takes a pathologist."
        if st.button("Rerun", f"rerun-{shown}", disabled=why_not is not None, help=why_not):
            _rerun(subject, seen, undone, failed=failed)
        if detail.trouble is not None and st.button("Try again"):
            _retry(subject, case.state)
        if detail.held and st.button("Let it go on", f"keep-{detail.held}"):
            _let_go_on(detail)


# dialogs


@st.dialog("Confirm the score")
def _confirm(case: str, score: str, seen: str) -> None:
    with st.form("confirm", border=False):
        st.write(f"You stand for the score **{score}**.")
        _verified_by()
        by = _person()
        if st.form_submit_button(f"Confirm {score}", type="primary"):
            answer = actions.confirm(look.settings(), case, seen=score, result=seen, by=by)
            _finish(answer, by)


@st.dialog("Correct the score")
def _correct(case: str, standing: str, scores: tuple[str, ...], seen: str) -> None:
    with st.form("correct", border=False):
        score = st.radio("Score", scores, index=None, horizontal=True)
        st.write(f"The score is {standing or 'none'}. The same score again confirms it.")
        why = st.text_input("Reason", help="For the report.")
        _verified_by()
        by = _person()
        if st.form_submit_button("Correct", type="primary"):
            if score is None:
                _refuse("Score: choose one.")
                return
            answer = actions.correct(
                look.settings(), case, score, standing=standing, result=seen, by=by, why=why
            )
            _finish(answer, by)


@st.dialog("This case cannot be scored")
def _cannot_score(case: str, seen: str) -> None:
    with st.form("cannot", border=False):
        st.write("The report's score becomes Indeterminate.")
        _verified_by()
        _because(
            "Say so",
            lambda by, why: actions.cannot_score(
                look.settings(), case, result=seen, by=by, why=why
            ),
        )


@st.dialog("Analyze the case again")
def _rerun(case: str, seen: str, undone: str, *, failed: bool) -> None:
    with st.form("rerun", border=False):
        st.write("By today's weights and settings. The present result is kept, and replaced.")
        if undone:
            look.block(f"<div>{escape(undone)}</div>")
        if seen and failed:
            st.write("Only the writing of its objects failed: *Try again* keeps the result.")
        by = _person()
        if st.form_submit_button("Rerun", type="primary"):
            answer = actions.rerun(look.settings(), case, result=seen or NO_RESULT, by=by)
            _finish(answer, by)


@st.dialog("Try again")
def _retry(subject: str, seen: str) -> None:
    with st.form("retry", border=False):
        _because(
            "Try again",
            lambda by, why: actions.retry(look.settings(), subject, by=by, why=why, seen=seen),
        )


MOST_LOOKED_AT = 5000
"""Most slides or cases of a cause that one press looks at."""


def retry_all_button(group: TroubleGroup) -> None:
    """Show the button that tries all of a group again, where it can be.

    The dialog is opened by `retry_all_dialog`, outside of the part that refreshes: a form within
    that part would be lost with the next refresh.
    """
    if not group.can_retry or not may_act():
        return
    if st.button(f"Try all {group.number} again", key=group.cause):
        st.session_state[GROUP] = replace(group, items=())
        st.rerun(scope="app")


def retry_all_dialog() -> None:
    """Open the dialog of the group whose button was pressed."""
    if (group := st.session_state.pop(GROUP, None)) is not None:
        _retry_all(group)


@st.dialog("Try all again")
def _retry_all(group: TroubleGroup) -> None:
    st.write(group.sentence)
    if group.number > actions.RETRY_AT_ONCE:
        first = "those first that were not tried for the longest time"
        st.write(f"{actions.RETRY_AT_ONCE} of {group.number} at a time, {first}.")
    with st.form("retry-all", border=False):

        def act(by: Person, why: str) -> Answer:
            subjects = read_subjects(look.ledger(), look.settings(), group.cause, MOST_LOOKED_AT)
            return actions.retry_all(look.settings(), subjects, by=by, why=why)

        _because("Try again", act)


@st.dialog("Let the case go on")
def _let_go_on(detail: CaseDetail) -> None:
    case, held = f"case-{detail.case.id}", detail.held
    if detail.trouble is not None:
        look.block(f"<div>{escape(detail.trouble.sentence)}</div>")
    with st.form("keep", border=False):
        _because(
            "Go on",
            lambda by, why: actions.let_go_on(look.settings(), case, held=held, by=by, why=why),
        )


def slide_forms(slide: SlideLine, accession: str, block: str, stain: str) -> None:
    """Show the forms of a slide: what it is, its pair, leave out, try again, keep.

    A word is about the slide as the page showed it before the press, whatever it shows now.
    """
    subject = f"slide-{slide.id}"
    before, seen = st.session_state.get(SHOWN, ("", ""))
    if before != subject:
        seen = slide.seen
    st.session_state[SHOWN] = subject, slide.seen
    names, pairs, rest = st.tabs(["What it is", "Pair it", "Leave out, try again, keep"])
    with names, st.form("name"):
        # By its key a field keeps what was typed when the present value, its placeholder, changes.
        # An action that was carried out empties it.
        key = f"{subject}-{st.session_state.get(DONE, 0)}"
        known = ("Accession", accession), ("Block", block), ("Stain", stain)
        accession_said, block_said, stain_said = (
            column.text_input(part, placeholder=now or "unknown", key=f"name-{part}-{key}")
            for column, (part, now) in zip(st.columns(3), known, strict=True)
        )
        _because(
            "Say what it is",
            lambda by, why: actions.name_slide(
                look.settings(),
                subject,
                accession=accession_said,
                block=block_said,
                stain=stain_said,
                by=by,
                why=why,
                seen=seen,
            ),
        )
    with pairs:
        _pair_it(subject, is_anatomy=stain == "HE")
    with rest, st.form("rest"):
        _rest(subject, seen)


def _rest(subject: str, seen: str) -> None:
    choices: dict[str, Callable[..., Answer]] = {
        "Try again": partial(actions.retry, seen=seen),
        "Leave out of every case": partial(actions.exclude, seen=seen),
        "Keep before other scans": partial(actions.keep, seen=seen),
    }
    # Nothing is chosen beforehand: each of them may take a case its result.
    chosen = st.radio("Action", list(choices), index=None, horizontal=True)

    def act(by: Person, why: str) -> Answer:
        if chosen is None:
            return Answer(False, "Action: choose one.")
        return choices[chosen](look.settings(), subject, by=by, why=why)

    _because("Do it", act)


def _pair_it(subject: str, *, is_anatomy: bool) -> None:
    """Show both slides, and the form that pairs them as the page showed them before the press."""
    left, right = st.columns(2)
    anatomy = left.text_input("H&E slide", value=subject if is_anatomy else "").strip()
    target = right.text_input("Other slide", value="" if is_anatomy else subject).strip()
    before = st.session_state.get(BOTH, {})
    st.session_state[BOTH] = show_both((anatomy, target))
    seen = before.get(anatomy, NOT_SHOWN), before.get(target, NOT_SHOWN)
    with st.form("pair"):
        _because(
            "Pair them",
            lambda by, why: actions.pair(
                look.settings(), anatomy, target, by=by, why=why, seen=seen
            ),
        )


def pair_form(
    anatomy: tuple[SlideLine, ...], others: tuple[SlideLine, ...]
) -> tuple[SlideLine, SlideLine] | None:
    """Show the form that has one pair analyzed first; return the pair once it is on its way."""

    def name(slide: SlideLine) -> str:
        aside = ", set aside" if slide.reason else ""
        return f"{slide.name} (slide-{slide.id}, {stain_word(slide.stain)}{aside})"

    before = st.session_state.get(OFFERED, {})
    st.session_state[OFFERED] = {slide.id: slide.seen for slide in (*anatomy, *others)}
    with st.form("pair-first"):
        left, right = st.columns(2)
        # Nothing is chosen beforehand: one press would pair slides of two patients.
        first = left.selectbox("H&E slide", anatomy, index=None, format_func=name)
        second = right.selectbox(
            "Stained slide of the same block", others, index=None, format_func=name
        )
        by = _person()
        if not st.form_submit_button("Analyze this pair", type="primary"):
            return None
        if first is None or second is None:
            _refuse("Choose both slides.")
            return None
        seen = before.get(first.id, NOT_SHOWN), before.get(second.id, NOT_SHOWN)
        answer = actions.try_pair(
            look.settings(), f"slide-{first.id}", f"slide-{second.id}", by=by, seen=seen
        )
        if not answer.done:
            _refuse(answer.text)
            return None
    st.session_state[PERSON] = by.name.strip()
    return first, second


def destination_form(names: tuple[str, ...]) -> None:
    """Show the form that asks a destination whether it answers."""
    with st.form("destination"):
        st.markdown("#### Ask a destination")
        name = st.selectbox("Destination", names)
        by = _person()
        if st.form_submit_button("Ask it"):
            _finish(actions.test_destination(look.settings(), name, by=by), by)


def pacs_form() -> None:
    """Show the form that asks a PACS which the settings do not name yet."""
    with st.form("pacs"):
        host_at, port_at, called_at, calling_at = st.columns(4)
        host = host_at.text_input("Host", key="pacs-host")
        port = port_at.number_input("Port", 1, 65535, 104, key="pacs-port")
        called = called_at.text_input("Its AE title", key="pacs-called", max_chars=16)
        calling = calling_at.text_input("Own AE title", "TANDEM", key="pacs-calling", max_chars=16)
        by = _person()
        if st.form_submit_button("Ask it (C-ECHO)"):
            answer = actions.try_pacs(look.settings(), host, port, called, calling, by=by)
            tone = "" if answer.done else " refused"
            role = "status" if answer.done else "alert"
            look.block(f'<div class="td-said{tone}" role="{role}">{escape(answer.text)}</div>')


def _because(label: str, act: Callable[[Person, str], Answer]) -> None:
    """Ask for reason and name within a form, and act where its button is pressed."""
    why = st.text_input("Reason", help="For the record.")
    by = _person()
    if st.form_submit_button(label, type="primary"):
        _finish(act(by, why), by)


def _person() -> Person:
    """Return the user who is signed in; without a login, ask for the name."""
    if (access := of_server()) is not None and access.required:
        user = look.user()
        return Person(user.person, user.role) if user else Person("", Role.VIEWER)
    name: str = st.text_input(
        "Your name",
        value=st.session_state.get(PERSON, ""),
        placeholder="Family^Given, such as Meyer^Anna",
        help=NAME_HELP,
        max_chars=64,
    )
    return Person(name, Role.ADMIN)


def _verified_by() -> None:
    """Say in whose name the new report is: on a shared computer it may be another person's."""
    user = look.user()
    look.block(
        f"<div>The new report is VERIFIED by {escape(user.person if user else 'you')}.</div>"
    )


def _refuse(text: str) -> None:
    look.block(f'<div class="td-said refused" role="alert">{escape(text)}</div>')


def _finish(answer: Answer, by: Person) -> None:
    if not answer.done:
        _refuse(answer.text)
        return
    st.session_state[PERSON] = by.name.strip()
    st.session_state[DONE] = st.session_state.get(DONE, 0) + 1
    st.session_state[TOLD] = answer.text
    st.rerun()
