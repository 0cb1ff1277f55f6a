"""Identity of a slide: what each source knows of accession, block and stain."""
