"""The line from a slide file to a proven DICOM result; torch-free but for one door.

Read `line/analysis.py` for the steps and `line/daemon.py` for how they are wired.
"""
