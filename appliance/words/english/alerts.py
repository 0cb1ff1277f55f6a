"""Sentences of alerts. They leave the machine: none names a patient, an accession or a file."""

from __future__ import annotations

from appliance.words.template import Words

ALERTS: Words = {
    "lane": "Tandem runs, held up in part ({lanes}): {trouble}",
    "folder": "{line}",
    "folder-away": "The scanner's folder is away. Mount it; work goes on by itself.",
    "disk-full": "The disk of the state folder is full. Make room; work goes on by itself.",
    "state-unusable": (
        "The state folder's results cannot be read or written. See to its disk and its rights; "
        "work goes on by itself."
    ),
    "ledger-unwritable": "The ledger cannot be written now; work goes on by itself when it can.",
    "weights-unusable": "Weights cannot be used: tandem doctor says which. Work goes on by itself.",
    "device-unusable": (
        "The device of the networks fails, or its memory is used up: see nvidia-smi and the log. "
        "Work goes on by itself."
    ),
    "machine-short": (
        "The machine is short of memory, threads, processes or open files: see what else runs on "
        "it. Work goes on by itself."
    ),
    "worklist-away": "The worklist does not answer; slides and cases wait for their orders.",
    "cluster-away": "The cluster's scheduler does not answer; steps wait for it.",
    "worker-start": (
        "No worker process can be started, here or on a worker of the cluster: the log says why. "
        "Work goes on by itself."
    ),
    "ledger": "The ledger cannot be read: run tandem ledger verify, and do not delete it.",
    "destination": (
        "The destination {name} does not take objects: {count} wait, and Tandem tries again by "
        "itself. tandem doctor asks it."
    ),
    "slide-absent": (
        "The destination {name} takes objects, but has not these images of the scanner's slides "
        "yet: {count}. Send them there from the scanner or its archive. Tandem asks again."
    ),
    "refused": (
        "Objects that the destination {name} refused for good: {count}. Their cases wait for a "
        "person: the dashboard says why. After a change: tandem retry."
    ),
    "stat": "The STAT case {case} has a result{where}. The dashboard shows it.",
    "silence": (
        "No slide arrived for {hours} hours. Is it a holiday? Else: does the scanner write to the "
        "watched folder?"
    ),
    "disk-low": (
        "Only {free_gib} GiB are free for results, less than low_disk_gib. Make room, or move "
        "state_dir."
    ),
    "disk-fills": "The disk of the state folder fills up: {forecast}. Make room before it is full.",
    "backup": "{trouble}",
    "retention": "{trouble}",
    "test": "This is a test: Tandem's alerts reach you.",
    "ended": "This has ended: {sentence}",
    # titles, by kind of cause
    "title-ended": "ended: {title}",
    "title-site": "held up",
    "title-stat": "a STAT result",
    "title-silence": "nothing arrives",
    "title-disk": "disk",
    "title-backup": "no backup",
    "title-test": "a test",
}
