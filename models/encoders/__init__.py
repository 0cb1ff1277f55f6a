"""Encoders of tiles: folders with frozen weights, and the networks that they hold."""
