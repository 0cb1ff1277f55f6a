"""Configuration of logging, the same in the daemon and in its workers."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHATTY = (
    "PIL",
    "highdicom",
    "opentile",
    "pydicom",
    "pynetdicom",
    "tifffile",
    "urllib3",
    "wsidicom",
    "wsidicomizer",
)
"""Libraries that log names of files or data sets, and so accessions, at INFO or WARNING."""


def configure_logging(level: str) -> None:
    """Log to standard error at `level`; the libraries in `CHATTY` log errors only."""
    logging.basicConfig(level=level, format=FORMAT)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
