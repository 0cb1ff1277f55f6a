"""The judge of a trial: what the ledger and the shelf say against the truth of the scanner.

Each rule returns sentences; none means that nothing was lost and nobody was misled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread

from appliance.ledger.tables import EventRow, SlideRow
from appliance.slides.files import fingerprint, fingerprints
from benchmarks.quick.recorder import RECORD_NAME
from benchmarks.trial.ledger import ON_ITS_WAY, Snapshot

Entry = dict[str, Any]
BLAMED = frozenset({"", "failed", "worker-killed"})
"""Reasons that say nothing about a slide."""
NEWER_S = 10.0
"""Seconds between two scans of a slide from which the later one has to be the one that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Facts that are judged. `events` are those of the slides and cases of `found`."""

    truth: Mapping[str, Any]
    scans: Path
    found: Snapshot
    events: Sequence[EventRow]

    def rows_of(self) -> list[tuple[Entry, list[SlideRow]]]:
        """Return each slide of the truth with its rows."""
        by_path: dict[str, list[SlideRow]] = defaultdict(list)
        for row in self.found.slides:
            by_path[row.path].append(row)
        return [
            (entry, [row for name in entry["files"] for row in by_path[str(self.scans / name)]])
            for entry in self.truth["slides"]
        ]


def judge(trial: Trial) -> list[str]:
    """Return every breach of the truth, by slide or case number, never by name."""
    return [*judge_ends(trial), *_premature(trial)]


def judge_ends(trial: Trial) -> list[str]:
    """Return the breaches by how slides and cases ended, whenever that was."""
    return [
        *_ends(trial),
        *_scans_of_one_slide(trial),
        *_cases(trial),
        *_unknown_files(trial),
    ]


def _ends(trial: Trial) -> list[str]:
    """Judge the slides one by one: read with the right identity and bytes, or with a reason."""
    wrong = []
    for entry, rows in trial.rows_of():
        states = Counter(row.state for row in rows)
        what = f"{entry['profile']} {entry['fault']} {entry['variant']}: {dict(states)}"
        if any(row.state in ON_ITS_WAY for row in rows):
            wrong.append(f"left on its way: {what}")
        if entry["expected"] == "read" and states["read"] != 1:
            reasons = sorted({row.reason for row in rows})
            wrong.append(f"not read once: {what} {reasons}")
        if entry["expected"] == "set-aside":
            reasons = sorted({row.reason for row in rows if row.state == "quarantined"})
            if not reasons or states["read"]:
                wrong.append(f"not set aside: {what}")
            elif BLAMED & set(reasons) or (entry["reasons"] and reasons != entry["reasons"]):
                wrong.append(f"set aside as {reasons}: {what}")
        for row in rows:
            if row.state != "read" or entry["expected"] == "gone":
                continue
            wanted = (entry["accession"], entry["block"], entry["stain"])
            if (row.accession, row.block, row.stain) != wanted:
                wrong.append(f"wrong identity: {row.subject} {what}")
            if row.fingerprint not in fingerprints(Path(row.path)):
                wrong.append(f"not the bytes of its file: {row.subject} {what}")
    return wrong


def _scans_of_one_slide(trial: Trial) -> list[str]:
    """Judge duplicates and rescans: one is read, the newest where they came far apart."""
    groups: dict[tuple[str, ...], list[tuple[Entry, SlideRow]]] = defaultdict(list)
    for entry, rows in trial.rows_of():
        if entry["expected"] == "one-of":
            key = (entry["accession"], entry["block"], entry["stain"])
            groups[key] += [(entry, row) for row in rows]
    wrong = []
    for scans in groups.values():
        read = [entry for entry, row in scans if row.state == "read"]
        if len(read) != 1:
            states = [row.state for _, row in scans]
            wrong.append(f"{len(read)} scans of one slide are read: {states}")
            continue
        latest = max(entry["whole_at"][-1] for entry, _ in scans)
        if scans[0][0]["fault"] == "rescans" and latest - read[0]["whole_at"][-1] > NEWER_S:
            wrong.append("an older scan is read in place of the newer one")
    return wrong


def _cases(trial: Trial) -> list[str]:
    """Judge the cases: one for each block whose two slides are read, delivered with a score."""
    wrong = []
    known = {(case["accession"], case["block"]): case for case in trial.truth["cases"]}
    rows: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in trial.found.cases:
        rows[row.accession, row.block].append(row)
    for block, found in rows.items():
        if block not in known:
            wrong.append(f"a case of no block: {[row.subject for row in found]}")
    for block, case in known.items():
        found = rows[block]
        if len(case["read"]) == 2:
            if [row.state for row in found] != ["delivered"] or not found[0].score:
                states = [(row.subject, row.state, row.reason) for row in found]
                wrong.append(f"a pair does not end in one delivered case: {states}")
        elif case["read"] and not case["perhaps"]:
            states = [row.state for row in found]
            if not set(states) <= {"waiting", "partnerless"} or len(states) > 1:
                wrong.append(f"a slide without a partner: case {states}")
    return wrong


def _unknown_files(trial: Trial) -> list[str]:
    """Judge rows of files that are no slides: links, dust bins, temporary names."""
    known = {str(trial.scans / name) for entry in trial.truth["slides"] for name in entry["files"]}
    return [
        f"a file that is no slide is {row.state}: {row.subject}"
        for row in trial.found.slides
        if row.path not in known and (row.state == "read" or row.state in ON_ITS_WAY)
    ]


def _premature(trial: Trial) -> list[str]:
    """Judge the times: no slide is identified before it was whole, or more often than whole."""
    identified: dict[str, list[float]] = defaultdict(list)
    for event in trial.events:
        if event.code == "identified":
            identified[event.subject].append(event.at)
    wrong = []
    for entry, rows in trial.rows_of():
        whole = entry["whole_at"]
        for row in rows:
            times = identified[row.subject]
            what = f"{row.subject} {entry['profile']} {entry['fault']} {entry['variant']}"
            if times and (not whole or min(times) < min(whole)):
                wrong.append(f"read before it was whole: {what}")
            if len(times) > max(1, len(whole)):
                wrong.append(f"identified {len(times)} times: {what}")
    return wrong


def judge_shelf(trial: Trial, shelf: Path, *, known_bytes: Mapping[str, set[str]]) -> list[str]:
    """Judge the objects that arrived: each once, of the right accession, and of its own slides.

    `known_bytes` has for each accession the fingerprints that its slides ever had as whole files.
    """
    wrong = []
    stored: dict[str, list[str]] = defaultdict(list)
    record = shelf / RECORD_NAME
    for line in record.read_text().splitlines() if record.exists() else ():
        fact = json.loads(line)
        stored[fact["uid"]].append(fact["sha256"])
    for uid, digests in stored.items():
        if len(digests) > 1:
            wrong.append(f"an object was stored {len(digests)} times, {len(set(digests))} bytes")
        content = (shelf / f"{uid}.dcm").read_bytes()
        if hashlib.sha256(content).hexdigest() != digests[-1]:
            wrong.append("an object on the shelf is not what was stored")
    pairs = {(case["accession"], case["block"]) for case in trial.truth["cases"]}
    for path in shelf.glob("*.dcm"):
        report = dcmread(path)
        facts = json.loads(report.DocumentTitle)
        accession = str(report.AccessionNumber)
        if (accession, facts["block"]) not in pairs:
            wrong.append("an object of no block")
        first, second, third, fourth = facts["read"]
        if (first, third) != tuple(facts["stated"]) or (second, fourth) != (first, third):
            wrong.append("an object of a slide that changed while it was read")
        if not {first, third} <= known_bytes.get(accession, set()):
            wrong.append("an object of another file")
    delivered = [row for row in trial.found.deliveries if row.state == "proven"]
    # By the files: a kill may come between a store and its line in the record.
    if {row.sop_instance_uid for row in delivered} - {path.stem for path in shelf.glob("*.dcm")}:
        wrong.append("an object counts as proven and is not on the shelf")
    return wrong


def bytes_of_slides(truth: Mapping[str, Any], scans: Path) -> dict[str, set[str]]:
    """Return the fingerprints of the slides in a folder, by accession."""
    known: dict[str, set[str]] = defaultdict(set)
    for entry in truth["slides"]:
        path = scans / entry["files"][0]
        if path.is_file():
            known[entry["accession"]].add(fingerprint(path))
    return known


Footprint = dict[str, tuple[int, int, int, str]]


def footprint(folder: Path) -> Footprint:
    """Return mode, size, time of change (ns) and SHA-256 of everything in a folder."""
    found: Footprint = {}
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(root) / name
            facts = path.lstat()
            digest = ""
            if path.is_file() and not path.is_symlink():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            key = str(path.relative_to(folder))
            found[key] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, digest)
    return found
