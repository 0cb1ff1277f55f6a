"""Progesterone receptor immunohistochemistry; off unless the setting ``extensions`` names it."""
