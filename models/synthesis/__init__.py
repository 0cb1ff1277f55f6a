"""Tissue generator: matched H&E and HER2 IHC from a seed, with exact ground truth."""
