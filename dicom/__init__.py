"""Standard objects from plain facts (arrays and coded concepts), and the wire to PACS."""
