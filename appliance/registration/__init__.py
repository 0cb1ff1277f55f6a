"""Registration of two sections of a block: pose, deformation, pairing of tiles."""
