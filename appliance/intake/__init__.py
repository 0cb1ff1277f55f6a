"""From a file that changed in the scanner's folder to an identified slide of a case."""
