"""Readers, which give opinions on a slide: networks, cells, control tissue."""
