"""Pictures of a case as the figures of arXiv 2512.22335 show them: tile, region and slide."""
