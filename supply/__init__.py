"""Supply chain: what Tandem is made of, under which licenses, and what is known against it."""
