"""Interim reader: HER2 from the H&E slide alone, taught by IHC (PAMA and IPCA).

The networks and their training; the paper is "Leveraging IHC Staining to Prompt HER2 Status
Prediction from HE-Stained Histopathology Whole Slide Images" (docs/papers.md).
"""
