"""Deep zoom of a case's slides: tiles, overlays and the page that links them."""
