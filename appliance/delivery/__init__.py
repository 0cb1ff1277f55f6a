"""Delivery: `Findings` become DICOM objects that are proven to be in the archive."""
