"""How one slide lies on the other."""
