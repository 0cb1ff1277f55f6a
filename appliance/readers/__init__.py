"""Who has an opinion on a slide: the networks, the cells, the control tissue."""
