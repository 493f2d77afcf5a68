"""Every environment variable, typed and read once; docs/operations.md lists them and a test keeps it so."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.witness.addresses import read_witnesses
from partners.errors import PerksError
from partners.keys import SECRET_BYTES_MIN, Keys, derive_keys
from partners.outside_addresses import read_private_targets


class SettingsInvalid(PerksError):
    """An environment variable can't be: the message names each and what is wrong with it."""

    code = "SETTINGS_INVALID"


def networks(text: str) -> str:
    """Addresses and networks with commas between; ValueError names what is neither."""
    for one in filter(None, text.split(",")):
        ip_network(one.strip())
    return text


def private_targets(text: str) -> str:
    """Hosts and networks, with ports or without, with commas between; ValueError names what is neither."""
    read_private_targets(text)
    return text


def witness_list(text: str) -> str:
    """Keys and addresses of witnesses; ValueError names what is neither."""
    read_witnesses(text)
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
    log_secret: SecretStr | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    base_url: str | None = None
    trusted_proxies: Annotated[str, AfterValidator(networks)] = ""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    database_connections: Annotated[int, Field(ge=5, le=100)] = 10
    graphiql: bool = False
    built_in_sign_in: bool = False
    disclosures_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    webhook_private_targets: Annotated[str, AfterValidator(private_targets)] = ""
    witnesses: Annotated[str, AfterValidator(witness_list)] = ""
    witness_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    log_json: bool = False

    @property
    def address(self) -> str:
        """What callers reach us at: the issuer of tokens (RFC 8414), without a slash at the end."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def keys(self) -> Keys:
        """The domain's keys; SettingsInvalid without a secret."""
        if self.secret is None:
            raise SettingsInvalid("PERKS_SECRET is needed: keys come from it")
        log_secret = None if self.log_secret is None else self.log_secret.get_secret_value().encode()
        return derive_keys(self.secret.get_secret_value().encode(), log_secret)

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
    for name, secret in (("PERKS_SECRET", settings.secret), ("PERKS_LOG_SECRET", settings.log_secret)):
        if secret is not None and len(secret.get_secret_value().encode()) < SECRET_BYTES_MIN:
            raise SettingsInvalid(f"{name}: at least {SECRET_BYTES_MIN} bytes")
    return settings


def variable(place: tuple[int | str, ...]) -> str:
    """The environment variable behind a field of the settings."""
    name = str(place[0]) if place else "?"
    return name if name.isupper() else f"PERKS_{name.upper()}"
