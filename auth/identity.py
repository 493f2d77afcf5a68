"""The identity file: whose word the operator takes on who somebody is, for signing in and for tokens from outside."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from auth.caller import CallerKind
from auth.scopes import scopes_of
from partners.errors import PerksError
from partners.programme import Handle

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ALGORITHMS = ("ES256", "ES384", "PS256", "RS256", "EdDSA", "Ed25519")
ISSUER_CHARACTERS_MAX = 255
LEEWAY_SECONDS_MAX = 60
TOKEN_AGE_SECONDS_MAX = 12 * 3600  # half of what revocations are remembered for (auth/revocations.py)


class IdentityInvalid(PerksError):
    """The identity file can't be: the message names the file's every fault in one line."""

    code = "IDENTITY_INVALID"


def is_safe_address(url: str) -> bool:
    """Whether nobody on the way can read or change what is fetched there: https, or http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not set(url) & set(' |\\"<>^`{}')
    local = parts.scheme == "http" and host in LOOPBACK
    return plain and bool(host) and "@" not in parts.netloc and (parts.scheme == "https" or local)


def checked_address(url: str) -> str:
    """The URL as it is written; ValueError unless it is https, or http on this machine, and without a fragment."""
    if not is_safe_address(url) or "#" in url:
        raise ValueError("an https URL (http only on this machine), without a fragment")
    return url


def checked_issuer(url: str) -> str:
    """The issuer's URL as it is written, since it is compared character by character (RFC 8414 section 2)."""
    if "?" in checked_address(url):
        raise ValueError("an issuer's URL has no query")
    return url


Text = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Address = Annotated[str, StringConstraints(max_length=2000), AfterValidator(checked_address)]
IssuerAddress = Annotated[str, StringConstraints(max_length=ISSUER_CHARACTERS_MAX), AfterValidator(checked_issuer)]
Claim = Text | Annotated[tuple[Text, ...], Field(min_length=1, max_length=5)]
"""A claim by its name, or one inside others by the path to it: `["realm_access", "roles"]`."""
Algorithm = Literal["ES256", "ES384", "PS256", "RS256", "EdDSA", "Ed25519"]
Algorithms = Annotated[tuple[Algorithm, ...], Field(min_length=1)]
Scopes = tuple[str, ...]


def claim_at(claims: Mapping[str, Any], claim: Claim) -> Any:
    """What a claim says, or None where there is none."""
    found: Any = claims
    for name in (claim,) if isinstance(claim, str) else claim:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def require_known(kind: CallerKind, names: set[str]) -> None:
    """ValueError names every scope that is not one of the kind's."""
    if unknown := sorted(names - scopes_of(kind)):
        raise ValueError(f"unknown scopes for a {kind}: {', '.join(unknown)}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where secrets are found: the process's environment, and the folder that the identity file lies in."""

    environment: Mapping[str, str]
    folder: Path


class Declared(BaseModel):
    """A table of the file, in which nothing is misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SignIn(Declared):
    """`[sign_in]`: the OpenID provider that members, partners' people and staff sign in with.

    A person is a member by `member_claim`, which says the member's external id; a partner's by `partner_claim`, which
    says the partner's handle; staff by a group of `staff_claim` that has scopes in `staff_scopes`.
    """

    issuer: IssuerAddress
    client_id: Text
    client_secret_env: Text | None = None
    client_secret_file: Path | None = None
    scopes: Scopes = ("openid", "profile")
    algorithms: Algorithms = ("ES256", "PS256", "RS256")
    name_claim: Claim = "name"
    member_claim: Claim = "sub"
    partner_claim: Claim | None = None
    staff_claim: Claim | None = None
    staff_scopes: dict[str, Scopes] = Field(default_factory=dict)
    leeway_s: Annotated[int, Field(ge=0, le=LEEWAY_SECONDS_MAX)] = 30

    _client_secret: SecretStr = PrivateAttr(default=SecretStr(""))

    @property
    def client_secret(self) -> SecretStr:
        """Read when the file was, from where it says."""
        return self._client_secret

    @model_validator(mode="after")
    def fits_together(self) -> "SignIn":
        """Groups of staff need a claim that names them, and scopes of staff."""
        if "openid" not in self.scopes:
            raise ValueError("scopes: openid is one of them")
        if bool(self.staff_scopes) != (self.staff_claim is not None):
            raise ValueError("staff_claim and staff_scopes go together")
        require_known(CallerKind.STAFF, {scope for scopes in self.staff_scopes.values() for scope in scopes})
        return self

    @model_validator(mode="after")
    def read_secret(self, info: ValidationInfo) -> "SignIn":
        """The secret from the one place that is named."""
        assert isinstance(info.context, Surroundings)
        if (self.client_secret_env is None) == (self.client_secret_file is None):
            raise ValueError("either client_secret_env or client_secret_file")
        if self.client_secret_env is not None:
            secret = info.context.environment.get(self.client_secret_env, "")
        else:
            try:
                secret = (info.context.folder / str(self.client_secret_file)).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as fault:
                raise ValueError(f"client_secret_file: {getattr(fault, 'strerror', 'not UTF-8')}") from None
        if not secret:
            raise ValueError(f"{self.client_secret_env or 'client_secret_file'} holds no secret")
        self._client_secret = SecretStr(secret)
        return self


class Issuer(Declared):
    """`[[issuer]]`: an authorization server whose access tokens for one audience speak for one kind of caller.

    `scopes` says what each of their names is worth here; names that it does not list are worth nothing, and `grants`
    come with every token. Times are in seconds.
    """

    issuer: IssuerAddress
    audience: Text
    kind: Literal[CallerKind.PARTNER, CallerKind.MEMBER, CallerKind.STAFF]
    algorithms: Algorithms
    jwks_uri: Address | None = None
    accepts_plain_jwt: bool = False
    client_claim: Claim | None = None
    scope_claim: Claim = "scope"
    scopes: dict[str, str | Scopes] = Field(default_factory=dict)
    grants: Scopes = ()
    partner: Handle | None = None
    partner_claim: Claim | None = None
    partners: dict[str, Handle] = Field(default_factory=dict)
    member_claim: Claim | None = None
    leeway_s: Annotated[int, Field(ge=0, le=LEEWAY_SECONDS_MAX)] = 30
    age_max_s: Annotated[int, Field(ge=60, le=TOKEN_AGE_SECONDS_MAX)] = 3600

    def scopes_for(self, theirs: frozenset[str]) -> frozenset[str]:
        """What their names are worth here, with what every token is granted."""
        worth = (self.scopes[name] for name in theirs & self.scopes.keys())
        mapped = {scope for one in worth for scope in ((one,) if isinstance(one, str) else one)}
        return frozenset(mapped | set(self.grants))

    @model_validator(mode="after")
    def fits_together(self) -> "Issuer":
        """Whom its tokens speak for is said once, and every scope is one of that kind's."""
        of_partner = self.kind is CallerKind.PARTNER
        if of_partner and (self.partner is None) == (self.partner_claim is None):
            raise ValueError("a partner's issuer has either partner or partner_claim")
        if not of_partner and (self.partner or self.partner_claim or self.partners):
            raise ValueError("partner, partner_claim and partners are for kind partner")
        if bool(self.partners) != (self.partner_claim is not None):
            raise ValueError("partner_claim and partners go together")
        if self.member_claim is not None and self.kind is not CallerKind.MEMBER:
            raise ValueError("member_claim is for kind member")
        require_known(self.kind, set(self.scopes_for(frozenset(self.scopes))))
        return self


class Identity(Declared):
    """The whole file."""

    sign_in: SignIn | None = None
    issuer: tuple[Issuer, ...] = ()

    @model_validator(mode="after")
    def issuers_differ(self) -> "Identity":
        """Two entries for one audience of one issuer leave open what its tokens are worth."""
        times = Counter((entry.issuer, entry.audience) for entry in self.issuer)
        if twice := [f"{issuer} for {audience}" for (issuer, audience), count in times.items() if count > 1]:
            raise ValueError(f"two issuers are {'; '.join(twice)}")
        return self


def read_identity(path: Path, environment: Mapping[str, str]) -> Identity:
    """What the file declares, with its secrets; IdentityInvalid says which file and every fault in it."""
    try:
        declared: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Identity.model_validate(declared, context=Surroundings(environment, path.parent))
    except OSError as fault:
        raise IdentityInvalid(f"{path}: {fault.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise IdentityInvalid(f"{path}: not TOML: {fault}") from None
    except ValidationError as error:
        places = [(".".join(str(part) for part in one["loc"]), one["msg"]) for one in error.errors()]
        faults = "; ".join(
            f"{place}: {what.removeprefix('Value error, ')}".removeprefix(": ") for place, what in places
        )
        raise IdentityInvalid(f"{path}: {faults}") from None
