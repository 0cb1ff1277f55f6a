"""Settings of intake: the watched folder, and the pairing of slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from appliance.settings.section import Section, SomePath


class Watch(Section):
    """The scanners' folders, and the conditions under which a file counts as complete."""

    folder: SomePath = Path("scans")
    """Output folder of the scanner, watched with its subfolders. Tandem never writes to it."""
    folders: tuple[SomePath, ...] = ()
    """Further folders, for several scanners or shares. Where one is away, only its own slides are
    held. With this setting alone, `folder` is not watched."""
    marker: str = ""
    """Name of a file that must lie in each of these folders. A folder without it counts as away:
    the mount point of a share that is not mounted is an empty folder. Empty: no marker is asked."""
    ignore: tuple[str, ...] = ()
    """Globs of files and folders that are left out. A pattern with a slash is compared with the
    path below the watched folder, which begins with a slash: ``*/test/*``. A pattern without one is
    compared with each name: ``*_calibration*``."""
    start_from_now: bool = False
    """Leave alone all files that are there at the first start with this setting. A file that
    changes later is taken up."""
    rescan_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Period of the full scan. File events are hints only: network shares send none."""
    polling: bool = False
    """Do not ask the system for file events, and scan each `poll_seconds`. For NFS and SMB."""
    poll_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Period of the full scan where there are no file events. A scan that takes long is followed by
    a pause of four times its duration."""
    stable_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 15.0
    """Time for which size and modification time must not change. Scanners pause between regions."""
    patience_seconds: Annotated[float, Field(ge=0)] = 120.0
    """Time that a quiet but incomplete file may take to become a whole slide before a person is
    told. A copy over a slow network can stall. The file is taken up again whenever it changes."""
    series_patience_seconds: Annotated[float, Field(ge=0)] = 3600.0
    """The same for a DICOM series without level 0: exports write coarse levels first, and level 0
    of a large slide long after."""

    @field_validator("marker")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if "/" in value or value in (".", ".."):
            raise ValueError("name a file in the folder, without a path")
        return value

    @property
    def roots(self) -> tuple[Path, ...]:
        """The watched folders, each once."""
        named = "folder" in self.model_fields_set or not self.folders
        return tuple(dict.fromkeys((self.folder,) * named + self.folders))


class Patients(Section):
    """IDs that belong to one patient."""

    merged: tuple[tuple[str, ...], ...] = ()
    """Groups of patient IDs that the site declares to be one patient: ``[["4711", "0815"]]``. An
    ID of one issuer is written ``4711^^^HOSPITAL``. Cases that were held for such a difference go
    on at the next start."""

    @field_validator("merged")
    @classmethod
    def _groups_are_groups(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        if any(len(group) < 2 or not all(each.strip("^ ") for each in group) for group in value):
            raise ValueError("write groups of at least two patient IDs")
        return value


class PairSettings(Section):
    """Waiting of a slide for the other slide of its block."""

    partner_timeout_hours: Annotated[float, Field(gt=0)] = 72.0
    """Time after which a slide without partner is shown as trouble. A late partner still reopens
    the case. IHC is often run one to three days after H&E."""
    expected_assays: tuple[str, ...] = ("her2",)
    """Assays whose target slide is missed when only the H&E slide of a block has come. The case of
    any other assay begins with its target slide."""
    lone_he: Literal["quiet", "trouble"] = "quiet"
    """Blocks that have only their H&E slide after `partner_timeout_hours`: ``trouble`` shows them
    as such, ``quiet`` lets them wait. An order that names stains decides where there is one:
    trouble if it asks for the missing stain, quiet if not."""
