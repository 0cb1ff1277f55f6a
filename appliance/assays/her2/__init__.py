"""HER2 IHC: guideline, score, review, read-outs."""
