"""Entry script of Streamlit; it holds only the navigation."""

import streamlit as st

from dashboard.views import case, look, queue

st.set_page_config(page_title="Tandem", page_icon=look.icon(), layout="wide")
look.style()
page = st.navigation(
    [
        st.Page(queue.render, title="Queue", url_path="queue", default=True),
        st.Page(case.render, title="Case", url_path="case"),
    ],
    position="hidden",
)
look.header()
look.appliance()
page.run()
look.footer()
