"""Entry script of Streamlit; it holds only the navigation."""

import streamlit as st

from dashboard.views import case, first_run, look, quality, queue, record, slide, system, worklist

st.set_page_config(page_title="Tandem", page_icon=look.icon(), layout="wide")
look.style()
page = st.navigation(
    [
        st.Page(queue.render, title="Today", url_path="queue", default=True),
        st.Page(worklist.render, title="Work list", url_path="worklist"),
        st.Page(quality.render, title="Quality", url_path="quality"),
        st.Page(system.render, title="System", url_path="system"),
        st.Page(record.render, title="Record of access", url_path="record"),
        st.Page(first_run.render, title="First run", url_path="first-run"),
        st.Page(case.render, title="Case", url_path="case"),
        st.Page(slide.render, title="Slide", url_path="slide"),
    ],
    position="hidden",
)
look.header()
page.run()
look.footer()
