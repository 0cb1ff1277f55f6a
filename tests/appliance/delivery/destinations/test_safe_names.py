"""Names of files: whatever the texts of an object, nothing is written outside of the archive."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.delivery.destinations.contract import Instance, Proof
from appliance.delivery.destinations.folder import FileSetArchive, FolderArchive
from dicom.status import InstanceRef, Outcome, Verdict
from dicom.uids import is_uid

TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="./\\0123456789\0~", max_size=70),
    st.from_regex(r"[0-9.]{1,70}", fullmatch=True),
    st.sampled_from(
        ["../../../pwn", "/absolute/pwn", "..", ".", "", "1." + "9" * 70, "1.02", "2.25.1"]
    ),
)


@pytest.mark.parametrize("kind", [FolderArchive, FileSetArchive])
@settings(deadline=None, max_examples=150)
@given(study=TEXTS, series=TEXTS, instance=TEXTS)
@example(study="../../../pwn", series="1.2", instance="1.2")
@example(study="1.2", series="1.2", instance="../../pwn")
def test_nothing_is_written_outside_of_the_archive(
    kind: type[FolderArchive], study: str, series: str, instance: str
) -> None:
    with TemporaryDirectory() as folder:
        top = Path(folder)
        archive = top / "a" / "b" / "c" / "archive"
        archive.mkdir(parents=True)
        source = top / "source.dcm"
        source.write_bytes(b"an object")
        ref = InstanceRef(
            study_uid=study, series_uid=series, sop_instance_uid=instance, sop_class_uid="1.2"
        )
        given_ = Instance(path=source, ref=ref)
        outcomes: list[Outcome] = []
        place = kind("archive", archive, ours=False)
        place.send([given_], lambda _: None, lambda _, outcome: outcomes.append(outcome))
        proof = place.prove([given_])[instance].proof
        written = [path for path in top.rglob("*") if path.is_file() and path != source]
        assert all(path.is_relative_to(archive) for path in written)
        if all(is_uid(uid) for uid in (study, series, instance)):
            assert [outcome.verdict for outcome in outcomes] == [Verdict.STORED]
        else:
            assert [outcome.verdict for outcome in outcomes] == [Verdict.NEVER]
            assert (proof, written) == (Proof.ABSENT, [])


@given(TEXTS)
def test_a_uid_is_digits_and_single_dots(text: str) -> None:
    if is_uid(text):
        assert text.isascii() and set(text) <= set("0123456789.") and len(text) <= 64
        assert all(part.isdigit() and part == str(int(part)) for part in text.split("."))
        assert text.count(".") > 0
