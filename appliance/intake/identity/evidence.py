"""Evidence: what each source says of a slide, and what follows from all of it.

Sources that agree identify a slide. Sources that disagree hold it, unless one of them outweighs the
other by far; a person's word, and a sidecar, end the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from appliance.domain import QuarantineReason
from appliance.intake.identity.blocks import Doubt
from appliance.intake.identity.vocabulary import folded
from appliance.settings.identify import Identify, SourceName

MAX_ACCESSION = 16
"""AccessionNumber is SH: 16 characters (PS3.5 Table 6.2-1)."""


TOLD: tuple[SourceName, ...] = ("person", "sidecar")
"""Sources that end every question, the strongest first."""


class Outcome(StrEnum):
    """Outcome of an identification."""

    IDENTIFIED = "identified"  #: accession, block and the stain of an assay
    OTHER = "other"  #: a stain of no assay, a control, an in situ hybridization
    CONFLICT = "conflict"  #: two sources, or two parts of one, contradict each other
    UNIDENTIFIED = "unidentified"  #: something is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Statement of one source; empty strings where it says nothing.

    `text` is what was read, `kind` that of the stain, `prefixed` the accession with what is joined
    to it in front and may belong to it: 01-S26-00031. `counted` is the name of a file that a device
    may have given, and that may be an accession: S0000312.
    """

    source: SourceName
    text: str
    accession: str = ""
    prefixed: str = ""
    counted: str = ""
    block: str = ""
    level: str = ""
    part: str = ""
    stain: str = ""
    kind: str = ""
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Identity of a slide by all sources.

    `reason` and `detail` say why it is not identified. `kind` is that of the stain.
    """

    outcome: Outcome
    accession: str = ""
    block: str = ""
    stain: str = ""
    kind: str = ""
    claims: tuple[Claim, ...] = ()
    reason: QuarantineReason | None = None
    detail: str = ""


def weigh(claims: Sequence[Claim], settings: Identify) -> Verdict:
    """Return the identity that follows from all claims."""
    heard, claims = claims, _with_prefixes(_with_counts(claims), settings)
    accession, apart = _agreed("accession", claims, settings)
    # A block counts only with the accession that it was written with; a stain belongs to the slide.
    own = [c for c in claims if not c.accession or _same(c.accession, accession, settings)]
    block, blocks_apart = _agreed("block", own, settings)
    stain, stains_apart = _agreed("stain", claims, settings)
    kind = next((c.kind for c in claims if c.stain == stain and c.kind), "")
    doubts = [
        (claim, doubt)
        for claim in claims
        for doubt in claim.doubts
        if (claim in own or doubt.part == "stain")
        and not any(getattr(c, doubt.part) for c in claims if c.source in TOLD)
    ]
    contradictions = [*apart, *blocks_apart, *stains_apart]
    parts = dict.fromkeys(claim.part for claim in own if claim.part)
    if len(parts) > 1 and not any(c.block for c in own if c.source in TOLD):
        contradictions.append(f"part of the specimen: {', '.join(parts)}")
    contradictions += [f"{claim.source}: {doubt.text}" for claim, doubt in doubts if doubt.many]
    unclear = {
        str(doubt.part): f"{claim.source}: {doubt.text}"
        for claim, doubt in doubts
        if not doubt.many and not _is_clear(doubt.part, claims)
    }
    known = Verdict(
        outcome=Outcome.IDENTIFIED,
        accession=settings.writing.of_accession(accession),
        block=settings.writing.of_block(block),
        stain=stain,
        kind=kind,
        claims=tuple(heard),
    )
    return _judged(known, contradictions, unclear)


def _with_counts(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims; a name that a device may have given is an accession where another source
    states one of its form: it contradicts S0000313."""
    forms = {_form(claim.accession) for claim in claims if claim.accession}
    return [
        replace(claim, accession=claim.counted)
        if claim.counted and _form(claim.counted) in forms
        else claim
        for claim in claims
    ]


def _form(accession: str) -> str:
    return re.sub(r"\d", "0", accession.strip()).casefold()


def _with_prefixes(claims: Sequence[Claim], settings: Identify) -> list[Claim]:
    """Return the claims; what is joined to an accession belongs to it where a second source has it.

    It does not where another source states the accession without it. A folder is no second source.
    """
    nearer = [c for c in claims if c.source != "folder"]
    stated = {accession_key(c.accession, settings) for c in nearer if not c.prefixed}
    joined = [(c.source, accession_key(c.prefixed, settings)) for c in nearer if c.prefixed]
    found = []
    for claim in claims:
        whole = accession_key(claim.prefixed, settings)
        seconds = {source for source, key in joined if key == whole}
        is_one = whole in stated or len(seconds) > 1
        if claim.prefixed and is_one and accession_key(claim.accession, settings) not in stated:
            clear = tuple(doubt for doubt in claim.doubts if doubt.part != "accession")
            claim = replace(claim, accession=claim.prefixed, prefixed="", doubts=clear)
        found.append(claim)
    return found


def _judged(known: Verdict, contradictions: Sequence[str], unclear: Mapping[str, str]) -> Verdict:
    """Return what is known with its outcome."""
    if contradictions:
        told = "; ".join(dict.fromkeys(contradictions))
        return _ended(known, Outcome.CONFLICT, QuarantineReason.IDENTITY_CONFLICT, told)
    if known.kind and known.kind != "stain":
        return replace(known, outcome=Outcome.OTHER)
    wrong = not_an_accession(known.accession)
    missing = Outcome.UNIDENTIFIED
    if not known.accession or wrong or "accession" in unclear:
        detail = wrong or unclear.get("accession", "")
        return _ended(known, missing, QuarantineReason.NO_ACCESSION, detail)
    if not known.block or "block" in unclear:
        return _ended(known, missing, QuarantineReason.NO_BLOCK, unclear.get("block", ""))
    if not known.stain or "stain" in unclear:
        return _ended(known, missing, QuarantineReason.UNKNOWN_STAIN, unclear.get("stain", ""))
    return known


def _ended(known: Verdict, outcome: Outcome, reason: QuarantineReason, detail: str) -> Verdict:
    return replace(known, outcome=outcome, reason=reason, detail=detail)


def _is_clear(part: str, claims: Sequence[Claim]) -> bool:
    """Return whether a source nearer than the folder states a part without doubt."""
    return any(
        getattr(claim, part) and all(doubt.part != part for doubt in claim.doubts)
        for claim in claims
        if claim.source != "folder"
    )


def not_an_accession(text: str) -> str:
    """Say why a text cannot be an accession number; empty where it can."""
    if len(text) > MAX_ACCESSION:
        return "what was found exceeds 16 characters"
    if "\\" in text or not text.isprintable():
        return "what was found is no readable text, or has a backslash"
    if text and names_nothing(text):
        return "what was found holds no number, or a wildcard, * or ?"
    return ""


def names_nothing(text: str) -> bool:
    """Return whether a text can name no specimen: ``UNKNOWN``, ``N/A``, ``-``, ``0000``, ``S26*``.

    A worklist that is asked with a wildcard answers with the orders of many.
    """
    return re.search(r"(?!0)\d", text) is None or re.search(r"[*?]", text) is not None


def _agreed(part: str, claims: Sequence[Claim], settings: Identify) -> tuple[str, list[str]]:
    """Return the value of a part on which the sources agree, and the contradictions.

    The source of the greatest weight gives its way of writing. The folder's stain and block count
    only where no other source has one: a folder holds slides of many.
    """
    stated = [c for c in claims if getattr(c, part)]
    for source in TOLD:
        told = [c for c in stated if c.source == source]
        if told:
            return getattr(told[0], part), []
    nearer = [c for c in stated if c.source != "folder"]
    if part != "accession" and nearer:
        stated = nearer
    if not stated:
        return "", []
    stated.sort(key=lambda c: -settings.weight(c.source))
    groups: dict[str, list[Claim]] = {}
    for claim in stated:
        key = _key(part, getattr(claim, part), settings)
        groups.setdefault(key, []).append(claim)
    # Two fields of one source, such as a barcode that the header holds twice, count once.
    weights = {
        key: sum(settings.weight(source) for source in {c.source for c in group})
        for key, group in groups.items()
    }
    best = max(weights, key=lambda key: weights[key])
    rest = [key for key in weights if key != best]
    first = getattr(groups[best][0], part)
    if all(weights[best] >= settings.outweighs * weights[key] for key in rest):
        return first, []
    told_apart = ", ".join(
        f"{group[0].source} {getattr(group[0], part)}" for group in groups.values()
    )
    return first, [f"{part}: {told_apart}"]


def _key(part: str, value: str, settings: Identify) -> str:
    """Return a value without its way of writing, for the comparison of two sources."""
    if part == "accession":
        return folded(settings.writing.of_accession(value))
    if part == "block":
        return block_key(value, settings)
    return value


def accession_key(accession: str, settings: Identify) -> str:
    """Return an accession without its way of writing, for comparison."""
    return _key("accession", accession, settings)


def block_key(block: str, settings: Identify) -> str:
    """Return a block without its way of writing, for comparison: A01 is A1."""
    # Block 1-1 is not block 11.
    apart = re.sub(r"(?<=\d)\W+(?=\d)", "x", settings.writing.of_block(block))
    return folded(re.sub(r"(?<!\d)0+(?=\d)", "", apart))


def _same(accession: str, other: str, settings: Identify) -> bool:
    return accession_key(accession, settings) == accession_key(other, settings)
