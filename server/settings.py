"""Every setting of the control plane and the worker, in one place. Environment variables start with INTRAMURAL_."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Defaults are the embedded form: SQLite and a filesystem broker under one data root."""

    model_config = SettingsConfigDict(env_prefix="INTRAMURAL_", extra="ignore")

    data: Path = Path("data")
    """Data root: database, broker and every run folder."""
    secrets: Path | None = None
    """Key files (mode 0600), outside the data root in production; none takes DATA/secrets."""
    release_key: Path | None = None
    """Private key that releases are signed with; only the control plane may read it. None takes SECRETS/release.key."""
    database_url: str | None = None
    """SQLAlchemy URL; none takes SQLite in the data root."""
    broker_url: str | None = None
    """Celery broker; none takes the filesystem transport in the data root."""
    export_roots: list[Path] = Field(default_factory=list)
    """Exports may only be registered below these folders."""
    weights_roots: list[Path] = Field(default_factory=list)
    """Open weights may only be imported from below these folders."""
    external_roots: list[Path] = Field(default_factory=list)
    """External sets may only be built from below these folders; none may share a folder with an export root."""
    policies: Path | None = None
    """Folder of the site's own policies, NAME.toml with the house lists beside them; the worker must see it too."""
    host: str = "127.0.0.1"
    port: int = 8471
    public_url: str | None = None
    """Address that people type, for links and the Origin check; none takes http://HOST:PORT."""
    lease_seconds: float = 300
    heartbeat_seconds: float = 15
    self_stop_seconds: float = 240
    """A supervisor that could not renew its lease for so long stops its stage."""
    poll_seconds: float = 30
    """A free worker looks into the database this often, should a message be lost."""
    cancel_grace_seconds: float = 60
    """From SIGTERM to SIGKILL."""
    max_attempts: int = 5
    retry_seconds: float = 30
    """Pause before a job that failed for want of something is tried again; each further one is four times as long."""
    slots: int = 1
    """Jobs one worker runs at once on CPUs; jobs with GPUs are bounded by the GPU slots."""
    stage_workers: int = 0
    """Processes of a CPU stage; 0 takes one per core."""
    promotion_margin: float = Field(default=0.01, ge=0, lt=0.5)
    """By how much, in the headline metric of a task, a new champion may at most be worse than the one before."""
    share_from: int = 1000
    """Files or other items that a step must have left for free workers to be asked to help; 0 asks none."""

    @cached_property
    def root(self) -> Path:
        return self.data.resolve()

    @property
    def secrets_dir(self) -> Path:
        return (self.secrets or self.root / "secrets").resolve()

    @property
    def signing_key(self) -> Path:
        return self.release_key or self.secrets_dir / "release.key"

    @property
    def release_public_key(self) -> Path:
        return self.secrets_dir / "release.pub"

    @property
    def vault_key(self) -> Path:
        return self.secrets_dir / "vault.key"

    @property
    def audit_head(self) -> Path:
        """Signed head of the audit log, outside the database."""
        return self.secrets_dir / "audit.head"

    @property
    def setup_secret(self) -> Path:
        """The one-time set-up secret of the first start; gone once it is used."""
        return self.secrets_dir / "setup.secret"

    def derivation_secret(self, site_id: str, epoch: int = 1) -> Path:
        """Key file of a site's derivation secret."""
        return self.secrets_dir / "sites" / site_id / f"derivation-{epoch}.key"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.root / 'intramural.db'}"

    @property
    def broker(self) -> str:
        return self.broker_url or "filesystem://localhost"  # kombu warns of a URL without a host

    @property
    def url(self) -> str:
        return self.public_url or f"http://{self.host}:{self.port}"
