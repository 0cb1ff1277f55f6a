"""The moving line: which step is next, who does it, how it ended."""
