"""Identity of a slide: names, stains, and the evidence of all sources."""
