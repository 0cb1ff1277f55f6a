"""The page of the first run: a folder, the names in it, a PACS, and a settings file to be saved.

The dashboard cannot write settings; the page ends with their text and the commands that use it.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from appliance.errors import SettingsError
from appliance.operations.first_run import (
    MOST_TRIED,
    FolderSeen,
    first_settings,
    pacs_section,
    see_folder,
)
from appliance.operations.users import Role
from dashboard.views import acting, look

SEEN, FOLDER = "first-run-seen", "first-run-folder"
"""Keys of the session: what was seen of the folder, and its path."""
_AFTER = """\
# Save the text as tandem.toml, in a folder of your choice, such as /etc/tandem. Then:
tandem config check --config /etc/tandem/tandem.toml
tandem doctor --config /etc/tandem/tandem.toml
tandem init --systemd --out /etc/tandem     # units of systemd for it
tandem run --config /etc/tandem/tandem.toml # or by hand
"""


def render() -> None:
    """Render the page (``first-run``)."""
    look.block(
        '<div class="td-card"><h1>First run</h1><div class="muted">Look at the folder of slides, '
        "the names in it and the PACS; the page ends with a settings file. It writes nothing, and "
        "changes no running appliance.</div></div>"
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
