"""Settings: one TOML file plus environment, read once at start and passed on as a value.

Order, strongest first: environment (``TANDEM_WATCH__FOLDER=…``), the TOML file, the defaults.
Unknown keys are refused. Each field says its unit, its default and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

_YEAR_NUMBER = r"[A-Za-z]{1,4}\d{2}[-.]\d{2,8}"
_BLOCK = r"[A-Z]{1,2}\d{1,3}"
_END = r"(?=[_;. -]|$)"


class Section(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Watch(Section):
    """What to watch, and when a file counts as finished."""

    folder: Path = Path("scans")
    """The scanner's output folder, watched with its subfolders; read-only to Tandem."""
    rescan_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Period of the full scan. Events are hints: network shares send none at all."""
    stable_seconds: Annotated[float, Field(gt=0)] = 15.0
    """Size and modification time must not change for so long. Scanners pause between regions."""
    patience_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long a quiet file that is not a whole slide may still become one before a person is
    told. A copy over a slow network can stall; it is taken up again whenever it changes."""


class Identify(Section):
    """How accession, block and stain are learnt."""

    patterns: tuple[str, ...] = (
        rf"^(?P<accession>{_YEAR_NUMBER})[_;. -]+(?P<block>{_BLOCK}){_END}",
        rf"^(?P<accession>[A-Za-z0-9][A-Za-z0-9-]*\d)[_;]+(?P<block>{_BLOCK}){_END}",
        rf"^(?P<accession>{_YEAR_NUMBER}){_END}",
    )
    """Regular expressions on barcode and file name, first match wins; groups accession and
    block (a pattern without block finds the accession of a slide that then lacks its block)."""
    stains: dict[str, tuple[str, ...]] = Field(
        default={
            "HE": ("HE", "H&E", "H+E", "HNE", "H-E"),
            "HER2": ("HER2", "HER-2", "HER2NEU", "CERBB2", "4B5"),
        }
    )
    """The lab's words for each stain, matched as whole words without regard to case."""

    @field_validator("stains")
    @classmethod
    def _known_stains(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        unknown = set(value) - {"HE", "HER2"}
        if unknown:
            raise ValueError(f"unknown stain {sorted(unknown)[0]!r}: use HE or HER2")
        return value


class PairSettings(Section):
    """How long a slide waits for its partner."""

    partner_timeout_hours: Annotated[float, Field(gt=0)] = 72.0
    """After so long a slide without partner is shown as trouble; a late partner still reopens it.
    IHC is often run one to three days after H&E."""


class ModelSettings(Section):
    """Which weights are used, and on what device."""

    tumor: Path | None = None
    """Folder of weights for C (manifest.json + model.safetensors), stronger than ``tandem weights
    use``; none: those that it selected, else the reference weights."""
    intensity: Path | None = None
    """The same for L."""
    segmentation: Path | None = None
    """The same for M."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""
    runtime: Literal["torch", "openvino"] = "torch"
    """Who runs the networks on a CPU. openvino is faster and gives the same class nearly
    everywhere, see docs/performance.md; a GPU is always torch's."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Tiles in one forward pass; none: as many as fit into half of the free memory, at most 8 on a
    CPU (4 for M), 256 on a GPU. Where memory runs out all the same, half as many from then on."""


Specimen = Literal["resection", "biopsy"]


class Scoring(Section):
    """Guideline and thresholds of the score."""

    guideline: str | None = None
    """Name of a file in appliance/assays/her2/guidelines, which every case is then scored by; none:
    the one that fits the organ and the specimen."""
    organ: str = "breast"
    """What the site scores where a slide's sidecar does not say: breast, gastric, colorectal or
    endometrial."""
    specimen: Specimen = "resection"
    """The same for the kind of specimen."""
    tumor_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A tile is tumor when C's probability reaches this."""
    margin_tiles: Annotated[int, Field(ge=0, le=20)] = 0
    """M also reads so many tiles around the tumor of the IHC slide, for the eye alone: they are in
    the label map and never in the score. Nothing else of the slide is read."""


class Review(Section):
    """When the appliance says that it is not sure."""

    max_alignment_error_um: Annotated[float, Field(gt=0)] = 100.0
    """Above this the H&E tumor may lie on the wrong IHC tile (a tile is 143 µm)."""
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of the H&E tissue that must lie on IHC tissue; what does not is not scored."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the H&E tissue's patches whose structure must be found again on the IHC slide, where
    their neighbours say: of one block more than half are, of two blocks less than a tenth."""
    min_tumor_area_mm2: Annotated[float, Field(ge=0)] = 0.1
    """Less tumor is too little to score."""
    min_tumor_cells: Annotated[int, Field(ge=0)] = 100
    """Nor are fewer tumor cells enough."""
    max_unscored_tumor_percent: Annotated[float, Field(ge=0, le=100)] = 30.0
    """Of the H&E slide's tumor may have no partner on the HER2 slide."""
    max_tumor_disagreement_percent: Annotated[float, Field(ge=0, le=100)] = 50.0
    """Of the tiles that C calls tumor M may find none on."""
    max_reader_difference: Annotated[float, Field(gt=0, le=3)] = 1.0
    """Classes between the mean of L and that of M."""
    heterogeneity_strong_percent: Annotated[float, Field(ge=0, le=100)] = 5.0
    """So much 3+ …"""
    heterogeneity_faint_percent: Annotated[float, Field(ge=0, le=100)] = 25.0
    """… beside so much 0 and 1+ is a heterogeneous tumor."""
    guard_band_percent: Annotated[float, Field(ge=0, le=50)] = 3.0
    """A class whose percentage lies so near the guideline's threshold makes the score unsure."""
    max_unusual_tiles_percent: Annotated[float, Field(ge=0, le=100)] = 25.0
    """More of a slide's tiles may not look unlike those that trained its network (stain, focus);
    of its own training tiles at most 1 % do."""
    max_unreadable_percent: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Of a slide's tiles may be damaged in the file."""
    max_marked_tumor_percent: Annotated[float, Field(ge=0, le=100)] = 10.0
    """Tumor tiles may lie under pen or on a fold."""
    control_strongest: Literal["1+", "2+", "3+"] = "3+"
    """The strongest class of the site's control tissue, when a run worked."""
    control_required: bool = False
    """Every HER2 slide of the site carries control tissue: one without goes to review."""


class ObjectSettings(Section):
    """What is written beside the structured report (docs/dicom-objects.md, docs/report.md)."""

    label_images: bool = False
    """The photographs of a converted slide's label, and of the whole slide with it. They show what
    is printed there, the patient's name included."""
    report_pdf: bool = True
    """The page for people as Encapsulated PDF."""
    page_image: bool = False
    """The same page as Secondary Capture, for viewers that open no PDF; 6 MiB."""
    annotations: bool = False
    """The labels of the tiles as Microscopy Bulk Simple Annotations. Debian's Orthanc cuts their
    metadata short, and few viewers show them."""
    finest_um: Annotated[float, Field(ge=0)] = 0.0
    """Edge of a px of the finest level of a Segmentation; 0: as fine as the label map, 1.1 µm on
    IHC and 4.5 µm on H&E. 4 makes it a sixteenth as large."""
    max_mib: Annotated[float, Field(gt=0, le=4095)] = 2048.0
    """A level of a Segmentation that could be larger is left out; uncompressed px end at 4 GiB."""
    segmentation: Literal["sparse", "full", "labelmap"] = "sparse"
    """sparse: BINARY, frames that hold something, what viewers and archives take. full: BINARY
    with a frame for every tile; dciodvfy of 2022 misses five attributes. labelmap: a tenth as
    large, but viewers of today and archives as they are installed refuse it. The last two are made
    in memory, from levels of at most 32 M px."""
    fractional: bool = False
    """Tumor probability as FRACTIONAL Segmentation too, for viewers without Parametric Maps."""
    heatmaps: bool = True
    """Parametric Maps of tumor probability and of stain intensity."""
    heatmap_palette: bool = False
    """Heat maps carry their own colours. Right by the standard, and few viewers look; dciodvfy of
    2022 calls eight of the attributes errors."""


Url = Annotated[str, StringConstraints(pattern=r"^https?://[^@\s]+$")]
"""Without user or password: those are secrets, and settings are printed."""
ObjectKind = Literal["WSM", "SEG", "PM", "SR", "PDF", "SC", "ANN"]


class _Destination(Section):
    objects: Annotated[tuple[ObjectKind, ...], Field(min_length=1)] | None = None
    """Kinds of objects that go there; none: all."""


class FolderDestination(_Destination):
    """A folder archive: one folder per study."""

    kind: Literal["folder"] = "folder"
    name: str = "archive"
    folder: Path | None = None
    """Where objects go; it must be there. None: ``archive`` in the state folder, which is made."""
    dicomdir: bool = False
    """Each study's folder is a DICOM file-set: a DICOMDIR, and files named as PS3.10 8.5 allows."""


class OverTls(Section):
    """The other side of a connection."""

    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    """For connecting and for each answer."""
    ca_file: Path | None = None
    """Who vouches for the other side (PEM); none: the system's authorities, over
    DICOMweb those of certifi."""
    certificate: Path | None = None
    """Our own certificate (PEM), where the other side wants one."""
    key: Path | None = None
    """Its key (PEM, unencrypted), where it is not in the same file."""

    @model_validator(mode="after")
    def _key_is_of_a_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs certificate")
        return self


class Worklist(OverTls):
    """The lab's modality worklist. It is asked by accession, for slides whose files are no DICOM:
    their objects then name the order's patient and lie in its study."""

    host: str
    port: Annotated[int, Field(gt=0, lt=65536)]
    called_aet: Annotated[str, Field(min_length=1, max_length=16)]
    calling_aet: Annotated[str, Field(min_length=1, max_length=16)] = "TANDEM"
    tls: bool = False
    """DICOM over TLS; the worklist's certificate must be for `host`."""


class _NetworkDestination(_Destination, OverTls):
    bandwidth_mib_s: Annotated[float, Field(gt=0)] | None = None
    """Most MiB that are sent in a second; none: as fast as it goes."""
    user: str | None = None
    """Of DICOMweb: the secret is this user's password; without a user it is a bearer token."""
    secret_file: Path | None = None
    """File that holds the secret; it is read at each use and never printed."""
    secret_env: str | None = None
    """Environment variable that holds it, where there is no file."""

    @model_validator(mode="after")
    def _secret_is_whole(self) -> Self:
        if self.secret_file is not None and self.secret_env is not None:
            raise ValueError("secret_file and secret_env: name one")
        if self.user is not None and self.secret_file is None and self.secret_env is None:
            raise ValueError("user needs secret_file or secret_env")
        return self


class PacsDestination(_NetworkDestination):
    """A PACS that takes C-STORE."""

    kind: Literal["dicom"]
    name: str = "pacs"
    host: str
    port: Annotated[int, Field(gt=0, lt=65536)]
    called_aet: Annotated[str, Field(min_length=1, max_length=16)]
    calling_aet: Annotated[str, Field(min_length=1, max_length=16)] = "TANDEM"
    tls: bool = False
    """DICOM over TLS; the PACS's certificate must be for `host`."""
    commitment_port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """Port of ours for the PACS's storage commitment reports; none: no commitment is asked for."""
    commitment_host: str = ""
    """Address that the port is opened on; empty: all of this machine's."""
    dicomweb_url: Url | None = None
    """Base of QIDO-RS, asked where there is no commitment; without it C-FIND is."""


class DicomWebDestination(_NetworkDestination):
    """A PACS that takes STOW-RS; proven by QIDO-RS."""

    kind: Literal["dicomweb"]
    name: str = "dicomweb"
    url: Url
    """Base of the DICOMweb service."""


Destination = Annotated[
    FolderDestination | PacsDestination | DicomWebDestination, Field(discriminator="kind")
]


class Delivery(Section):
    """Retries of delivery."""

    first_retry_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Doubles with each failure, give or take a quarter."""
    last_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest wait between two attempts."""
    most_attempts: Annotated[int, Field(ge=1)] = 300
    """So often an object is put on the wire before it counts as refused (some three days). A
    destination that cannot be reached costs no attempt."""


class Settings(BaseSettings):
    """All of it; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    state_dir: Path = Path("tandem-state")
    """Ledger, artifacts, outbox and the default archive: the only folder Tandem writes to."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG may show accessions; nothing above it does."""
    worker_deaths: Annotated[int, Field(ge=1)] = 3
    """So many killed workers on one slide, and it is quarantined."""
    watch: Watch = Watch()
    identify: Identify = Identify()
    pair: PairSettings = PairSettings()
    models: ModelSettings = ModelSettings()
    scoring: Scoring = Scoring()
    review: Review = Review()
    objects: ObjectSettings = ObjectSettings()
    delivery: Delivery = Delivery()
    worklist: Worklist | None = None
    destinations: tuple[Destination, ...] = (FolderDestination(),)

    @field_validator("destinations")
    @classmethod
    def _names_differ(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        names = [destination.name for destination in value]
        if not names:
            raise ValueError("name at least one destination")
        if len(set(names)) < len(names):
            raise ValueError("two destinations have the same name")
        ports = [d.commitment_port for d in value if isinstance(d, PacsDestination)]
        taken = [port for port in ports if port is not None]
        if len(set(taken)) < len(taken):
            raise ValueError("two destinations have the same commitment_port")
        return value

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return f"sqlite:///{self.state_dir / 'ledger.sqlite'}"

    @property
    def artifacts_dir(self) -> Path:
        """Root of the content-addressed results."""
        return self.state_dir / "artifacts"

    @property
    def weights_dir(self) -> Path:
        """Root of the installed weights and of what was selected among them."""
        return self.state_dir / "weights"

    def archive_dir(self, destination: FolderDestination) -> Path:
        """Folder that a folder destination writes to."""
        return destination.folder or self.state_dir / "archive"
