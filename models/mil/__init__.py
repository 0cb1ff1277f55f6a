"""Multiple-instance learning: a slide's class and attention from the vectors of its tiles."""
