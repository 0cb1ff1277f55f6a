"""Streamlit pages over the ledger and the artifacts."""
