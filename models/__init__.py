"""Neural networks and what makes them; never a slide database, never the network."""
