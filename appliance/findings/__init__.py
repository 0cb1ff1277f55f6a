"""The result of a case: its type, its files, its pictures."""
