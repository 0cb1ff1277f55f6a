"""Kind of a slide's picture: H&E, membrane DAB, nuclear DAB and others, without torch."""
