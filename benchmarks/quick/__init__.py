"""Quick stand-ins of the heavy steps, loaded by the setting ``extensions``: for tests of the line.

The line itself (folder, ledger, workers, outbox) is the product's. ``assay`` reads tiles but asks
no network, ``steps`` replaces alignment and object writing, ``recorder`` is a destination that
notes each store.
"""

EXTENSIONS = (
    "benchmarks.quick.clock",
    "benchmarks.quick.assay",
    "benchmarks.quick.steps",
    "benchmarks.quick.recorder",
)
"""Value of the setting ``extensions``."""
