"""The line from a slide file to a proven DICOM result; torch-free but for one door.

Read `analysis/pipeline.py` for the steps and `daemon.py` for how they are wired.
"""
