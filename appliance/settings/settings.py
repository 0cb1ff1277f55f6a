"""Settings: one TOML file plus environment, read once at start and passed on as a value.

Order of precedence: environment (``TANDEM_WATCH__FOLDER=…``), the TOML file, the defaults. Unknown
keys and variables are refused. Each field states its unit, its default and the reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from appliance.errors import SettingsError
from appliance.settings.alerts import Alerts
from appliance.settings.audit import Audit
from appliance.settings.cluster import Cluster
from appliance.settings.dashboard import Dashboard
from appliance.settings.delivery import Delivery
from appliance.settings.destinations import AnyDestination, DestinationSection, FolderDestination
from appliance.settings.extensions import load_extensions
from appliance.settings.identify import Identify
from appliance.settings.intake import PairSettings, Patients, Watch
from appliance.settings.lanes import Lanes
from appliance.settings.ledger import LedgerSettings
from appliance.settings.logs import Level, Logging, LogSettings
from appliance.settings.networks import ModelSettings
from appliance.settings.nuclear import Nuclear
from appliance.settings.objects import ObjectSettings
from appliance.settings.orders import Orders
from appliance.settings.read_service import ReadService
from appliance.settings.retention import Retention
from appliance.settings.scoring import Review, Scoring
from appliance.settings.section import SomePath
from appliance.settings.tls import Worklist
from appliance.settings.workitems import WorkItems

ORGANIZATION = r"^([^\s\\][^\x00-\x1f\x7f\\]{0,63})?$"
"""Name of an organization as DICOM has it (LO, PS3.5 6.2), or none."""

_NO_ADDRESS = re.compile(r"\?|%[0-9A-Fa-f]{2}")
"""Parts of a path that mean something else in the address of an SQLite database."""


class Settings(BaseSettings):
    """All settings of an appliance; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    extensions: tuple[str, ...] = ()
    """Python modules that are imported at start in every process. Each registers an assay, a reader
    or a destination (docs/destinations.md). Two assays ship and are off: name
    "appliance.assays.er.assay" and "appliance.assays.pr.assay" here (docs/er-pr.md). The first
    field: the kinds of `destinations` must be registered before these are validated."""
    state_dir: SomePath = Path("tandem-state")
    """Folder of the ledger, the artifacts, the outbox and the default archive. Tandem writes to no
    other folder."""
    organization: Annotated[str, Field(pattern=ORGANIZATION)] = ""
    """Name of the laboratory, at most 64 characters without a backslash. It stands beside the
    person in a report that a person signed. Empty: the report says that it is not stated."""
    log_level: Level = "INFO"
    """Least level of logged messages. Accessions appear at DEBUG only."""
    worker_deaths: Annotated[int, Field(ge=1)] = 3
    """Number of worker crashes on one slide after which it is quarantined."""
    low_disk_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    """Free space in GiB of the state folder below which Tandem warns. A case of two large slides
    needs about 2 GiB of artifacts."""
    lanes: Lanes = Lanes()
    cluster: Cluster = Cluster()
    watch: Watch = Watch()
    identify: Identify = Identify()
    pair: PairSettings = PairSettings()
    patients: Patients = Patients()
    models: ModelSettings = ModelSettings()
    scoring: Scoring = Scoring()
    review: Review = Review()
    nuclear: Nuclear = Nuclear()
    objects: ObjectSettings = ObjectSettings()
    delivery: Delivery = Delivery()
    ledger: LedgerSettings = LedgerSettings()
    retention: Retention = Retention()
    logs: LogSettings = LogSettings()
    dashboard: Dashboard = Dashboard()
    alerts: Alerts = Alerts()
    audit: Audit | None = None
    read_service: ReadService | None = None
    worklist: Worklist | None = None
    workitems: WorkItems | None = None
    orders: Orders = Orders()
    destinations: tuple[AnyDestination, ...] = (FolderDestination(),)

    @field_validator("extensions")
    @classmethod
    def _load(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            if value:
                load_extensions(value)
        except SettingsError as err:
            raise ValueError(str(err)) from err
        return value

    @field_validator("state_dir")
    @classmethod
    def _ledger_has_an_address(cls, value: Path) -> Path:
        if _NO_ADDRESS.search(str(value)):
            raise ValueError(
                "the ledger's address can hold no '?', and no '%' before two of 0-9 and A-F: "
                "rename the folder"
            )
        return value

    @field_validator("destinations")
    @classmethod
    def _names_differ(cls, value: tuple[DestinationSection, ...]) -> tuple[DestinationSection, ...]:
        names = [destination.name for destination in value]
        if not names:
            raise ValueError("name at least one destination")
        if len(set(names)) < len(names):
            raise ValueError("two destinations have the same name")
        taken = [d.own_port for d in value if d.own_port is not None]
        if len(set(taken)) < len(taken):
            raise ValueError("two destinations have the same commitment_port")
        return value

    @property
    def logging(self) -> Logging:
        """Logging of each process."""
        return Logging(level=self.log_level, format=self.logs.format, levels=self.logs.levels)

    @property
    def ledger_url(self) -> str:
        """URL of the ledger's SQLite file."""
        return f"sqlite:///{self.ledger_file}"

    @property
    def ledger_file(self) -> Path:
        """File of the ledger, an SQLite database."""
        return self.state_dir / "ledger.sqlite"

    @property
    def artifacts_dir(self) -> Path:
        """Root of the content-addressed results."""
        return self.state_dir / "artifacts"

    @property
    def weights_dir(self) -> Path:
        """Root of the installed weights and of the record of those in use."""
        return self.state_dir / "weights"

    def archive_dir(self, destination: FolderDestination) -> Path:
        """Return the folder that a folder destination writes to."""
        return destination.folder or self.state_dir / "archive"
