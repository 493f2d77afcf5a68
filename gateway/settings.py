"""Every environment variable, typed and read once; docs/operations.md lists them and a test keeps it so."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from partners.errors import PerksError
from partners.keys import SECRET_BYTES_MIN


class SettingsInvalid(PerksError):
    """An environment variable can't be: the message names each and what is wrong with it."""

    code = "SETTINGS_INVALID"


def networks(text: str) -> str:
    """Addresses and networks with commas between; ValueError names what is neither."""
    for one in filter(None, text.split(",")):
        ip_network(one.strip())
    return text


class Settings(BaseSettings):
    """What the operator decides. Without addresses the embedded servers start, and the secret is made once."""

    model_config = SettingsConfigDict(env_prefix="PERKS_", extra="ignore", populate_by_name=True)

    database_url: str | None = Field(None, validation_alias="DATABASE_URL")
    redis_url: str | None = Field(None, validation_alias="REDIS_URL")
    data_folder: Path = Path(".perks")
    programme: Path | None = None
    identity: Path | None = None
    secret: SecretStr | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    base_url: str | None = None
    trusted_proxies: Annotated[str, AfterValidator(networks)] = ""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    database_connections: Annotated[int, Field(ge=5, le=100)] = 10
    graphiql: bool = False
    built_in_sign_in: bool = False
    disclosures_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    log_json: bool = False

    @property
    def address(self) -> str:
        """What callers reach us at: the issuer of tokens (RFC 8414), without a slash at the end."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def programme_file(self) -> Path:
        """The programme of this club; the one that ships is the demo's."""
        return self.programme or Path(__file__).with_name("programme.toml")


def read_settings(**overrides: object) -> Settings:
    """Settings from the environment and the command line; SettingsInvalid in one line."""
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as fault:
        raise SettingsInvalid("; ".join(f"{variable(one['loc'])}: {one['msg']}" for one in fault.errors())) from None
    if settings.secret is not None and len(settings.secret.get_secret_value().encode()) < SECRET_BYTES_MIN:
        raise SettingsInvalid(f"PERKS_SECRET: at least {SECRET_BYTES_MIN} bytes")
    return settings


def variable(place: tuple[int | str, ...]) -> str:
    """The environment variable behind a field of the settings."""
    name = str(place[0]) if place else "?"
    return name if name.isupper() else f"PERKS_{name.upper()}"
