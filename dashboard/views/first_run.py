"""The page of the first run: a folder, the names in it, a PACS, settings to be saved, one pair.

The dashboard cannot write settings; the page shows their text and the commands that use it. The
pair goes through the line of the running daemon.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from appliance.domain import HE
from appliance.errors import SettingsError
from appliance.ledger.heartbeat import life
from appliance.ledger.lifecycle import CaseState
from appliance.operations.first_run import (
    MOST_TRIED,
    FolderSeen,
    first_settings,
    pacs_section,
    see_folder,
)
from appliance.operations.users import Role
from dashboard.lines import SlideLine
from dashboard.queries import case_of_pair, read_case, read_queue, read_slide
from dashboard.views import acting, look
from dashboard.views.records import pair_markup, steps_markup

SEEN, FOLDER = "first-run-seen", "first-run-folder"
"""Keys of the session: what was seen of the folder, and its path."""
HE_AT, OTHER_AT = "he", "other"
"""Names in the address: the slides of the pair."""
_NO_DAEMON = """\
The appliance does not run, and it is what analyzes a pair. Start it (step 3). A pair appears here
once its files are in the folder. No pair at hand? Make a synthetic one, and copy both slides into
the folder yourself, since Tandem never writes there:

    tandem synth --seed 26 --score 2+ --out /tmp/tandem-pair
"""
_AFTER = """\
# Save the text as tandem.toml, in a folder of your choice, such as /etc/tandem. Then:
tandem config check --config /etc/tandem/tandem.toml
tandem init --systemd --out /etc/tandem     # units of systemd, and the commands that use them
sudo -u tandem tandem doctor --config /etc/tandem/tandem.toml # once these were run
tandem run --config /etc/tandem/tandem.toml # or by hand
"""


def render() -> None:
    """Render the page (``first-run``)."""
    look.block(
        '<div class="td-card"><h1>First run</h1><div class="muted">Look at the folder of slides, '
        "the names in it and the PACS, save the settings, and see one pair go through the line. "
        "Steps 1 to 3 write nothing, and change no running appliance.</div></div>"
    )
    if look.names_hidden():
        acting.off()
        return
    if not acting.may_act(Role.ADMIN):
        look.block(
            '<div class="td-said refused" role="alert">This page needs the role admin.</div>'
        )
        return
    _folder()
    st.markdown("#### 2. Does the PACS answer?")
    acting.pacs_form()
    _settings()
    _pair()


def _folder() -> None:
    st.markdown("#### 1. Where does the scanner write?")
    with st.form("folder"):
        # Under another key than the field's: fields are forgotten when one leaves the page.
        known = st.session_state.get(FOLDER, str(look.settings().watch.roots[0]))
        folder = st.text_input("Folder of slides", known)
        if st.form_submit_button("Look at it"):
            st.session_state[FOLDER] = folder
            with st.spinner("Looking …"):
                st.session_state[SEEN] = see_folder(folder, look.settings())
    if (seen := st.session_state.get(SEEN)) is not None:
        look.block(f'<div class="td-card">{seen_markup(seen)}</div>')


def seen_markup(seen: FolderSeen) -> str:
    """Return what was seen of the folder, as markup."""
    if seen.trouble:
        return f'<div class="td-said refused" role="alert">{escape(seen.trouble)}</div>'
    more = "" if seen.counted_all else " or more"
    told = f"<p>Slides that can be read there: {seen.slides}{more}.</p>"
    if seen.unreadable_folders:
        told += f"<p>{seen.unreadable_folders} folders below it cannot be read by this user.</p>"
    if seen.formats:
        formats = ", ".join(f"{number} {suffix}" for suffix, number in seen.formats.items())
        told += f"<p>Not readable here: {escape(formats)}.</p>"
    rows = [
        (
            f'<span class="anywhere">{escape(entry["path"].rpartition("/")[2])}</span>',
            escape(entry["outcome"]),
            escape(entry["accession"]),
            escape(entry["block"]),
            escape(entry["stain"]),
            "" if entry["outcome"] == "identified" else escape(entry["sentence"]),
        )
        for entry in seen.tried
    ]
    heads = ("File", "Outcome", "Accession", "Block", "Stain", "Why not")
    told += f"<h2>What the first {MOST_TRIED} names say</h2>" + look.table(
        heads, rows, "There is no slide in it yet: the names of the first ones are tried later."
    )
    return told + (
        '<p class="muted">Other names of your laboratory, whose files need not exist: <code>tandem '
        "identify NAME</code>. Forms of names and words for stains: section [identify].</p>"
    )


def _settings() -> None:
    st.markdown("#### 3. Settings")
    state_at, name_at = st.columns(2)
    state = state_at.text_input("State folder", "/var/lib/tandem", help="Local disk; 2 GiB a case.")
    organization = name_at.text_input("Name of the laboratory", look.settings().organization)
    with_pacs = st.checkbox("Send to the PACS of step 2, in place of a folder")
    try:
        pacs = None
        if with_pacs:
            pacs = pacs_section(
                st.session_state["pacs-host"],
                st.session_state["pacs-port"],
                st.session_state["pacs-called"],
                st.session_state["pacs-calling"],
            )
        folder = st.session_state.get(FOLDER, str(look.settings().watch.roots[0]))
        text = first_settings(folder, state, organization, pacs)
    except SettingsError as err:
        look.block(f'<div class="td-said refused" role="alert">{escape(str(err))}</div>')
        return
    st.download_button("Download tandem.toml", text, "tandem.toml", "application/toml")
    st.code(_AFTER, language="bash")
    with st.expander("The text of tandem.toml"):
        st.code(text, language="toml")


@look.telling_trouble()
def _pair() -> None:
    st.markdown("#### 4. One pair")
    if not look.readable():  # reading would make an empty ledger
        st.markdown(_NO_DAEMON)
        return
    first, second = look.wanted(HE_AT), look.wanted(OTHER_AT)
    if first is not None and second is not None:
        _watched(first, second)
        return
    slides = sorted(
        read_queue(look.ledger(), look.settings()).slides,
        key=lambda slide: bool(slide.reason),  # one that is set aside is not offered first
    )
    anatomy = tuple(slide for slide in slides if slide.stain in ("", HE))
    others = tuple(slide for slide in slides if slide.stain != HE)
    if not life(look.settings()).alive:
        st.markdown(_NO_DAEMON)
        return
    if len(slides) < 2 or not anatomy or not others:
        st.markdown("The appliance runs, and has not seen a pair yet: copy one into the folder.")
        return
    chosen = acting.pair_form(anatomy, others)
    if chosen is not None:
        st.query_params.from_dict({HE_AT: str(chosen[0].id), OTHER_AT: str(chosen[1].id)})
        st.rerun()


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _watched(first: int, second: int) -> None:
    """Show how far a pair came, and its result."""
    slides = [read_slide(look.ledger(), look.settings(), each) for each in (first, second)]
    known = [each.slide for each in slides if each is not None]
    number = case_of_pair(look.ledger(), first, second)
    detail = None if number is None else read_case(look.ledger(), look.settings(), number)
    markup = "".join(_slide_line(slide) for slide in known)
    if detail is None:
        markup += "<p>They are not one case yet.</p>"
    else:
        markup += f"{steps_markup(detail)}{pair_markup(detail)}"
        if detail.case.state == CaseState.DELIVERED:
            markup += (
                "<p><b>These settings work:</b> a pair went from the folder to every destination."
                "</p>"
            )
    look.block(
        f'<div class="td-card">{markup}<a href="first-run" target="_self">Another pair</a></div>'
    )


def _slide_line(slide: SlideLine) -> str:
    """Markup of a slide of the pair: its name, and why it is set aside or what it waits for."""
    name = look.slide_link(slide.id, f"slide-{slide.id}: {slide.name}")
    said = slide.reason or slide.held
    why = f'<div class="remedy">{escape(said)}</div>' if said else ""
    return f"<div>{name} {look.progress_line(slide.progress)}{why}</div>"
