"""The line from a slide file to a proven DICOM result; `readers.inference` alone imports torch.

Start with docs/architecture.md, then `line/daemon.py` and `line/steps.py`.
"""
