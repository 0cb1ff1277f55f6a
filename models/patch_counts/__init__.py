"""Approach 3 of arXiv 2503.22069: classes of patches, counted, give the slide's class."""
