"""A simulated slide scanner: small real slides, written into a folder as each brand writes them."""
