"""A member's pass, shown at a counter, becomes a token of that member at that partner for two minutes (RFC 8693)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    UnauthorizedClientError,
)
from sqlalchemy.ext.asyncio import AsyncSession

from auth.approvals import caller_of_approval
from auth.caller import Caller, CallerKind
from auth.errors import Unauthenticated
from auth.forms import printable
from auth.issuing import token_answer
from auth.scopes import MEMBER_BOUND, join_scopes, split_scopes
from auth.server import Grant, Posted
from auth.tables import Approval, ApprovalState, Client, ClientAuthentication, GrantType
from auth.tokens import Authority, TokenVerifier
from partners import audit
from partners.actors import Actor, ActorKind
from partners.passes import use_pass
from partners.tables import Disclosure, DisclosureKind
from partners.tables.columns import new_id

PASS_TYPE = "urn:perks-gateway:token-type:pass"  # noqa: S105
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
EXCHANGED_TOKENS_LIVE = timedelta(seconds=120)


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]
    """The token was asked for somebody else than this service (RFC 8693 section 2.2.2)."""

    error = "invalid_target"


def check_exchange(form: Mapping[str, str], authority: Authority) -> str:
    """The pass of a request that asks for what there is; else invalid_request or invalid_target."""
    if form.get("subject_token_type") != PASS_TYPE:
        raise InvalidRequestError(f"subject_token_type must be {PASS_TYPE}")
    if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequestError(f"requested_token_type can only be {ACCESS_TOKEN_TYPE}")
    if any(form.get(name, authority.audience) != authority.audience for name in ("audience", "resource")):
        raise InvalidTargetError(f"the token is for {authority.audience} only")
    if ("actor_token" in form) != ("actor_token_type" in form):
        raise InvalidRequestError("actor_token and actor_token_type belong together")
    if form.get("actor_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequestError(f"actor_token_type can only be {ACCESS_TOKEN_TYPE}")
    if "subject_token" not in form:
        raise InvalidRequestError("subject_token is missing: the pass that the member shows")
    return form["subject_token"]


async def check_actor(
    form: Mapping[str, str], client: Client, dpop_jkt: str | None, verifier: TokenVerifier, now: datetime
) -> Caller | None:
    """Who shows the pass to us: a public client proves itself by its own access token, others may.

    invalid_request (RFC 8693 section 2.2.2) unless that token is live, the client's own, for no member, and, when it
    is bound to a key, comes with a proof by that key.
    """
    token = form.get("actor_token")
    if token is None:
        if client.authentication == ClientAuthentication.NONE:
            raise InvalidRequestError("a public client sends its own access token as actor_token")
        return None
    try:
        caller = await verifier.verify(token.encode(), now)
    except Unauthenticated as refusal:
        raise InvalidRequestError(printable(f"actor_token: {refusal.message}")) from None
    if (caller.kind, caller.client_id, caller.partner_id) != (CallerKind.PARTNER, client.id, client.partner_id):
        raise InvalidRequestError("actor_token: not a token of this client")
    if caller.alias is not None:
        raise InvalidRequestError("actor_token: a token that speaks for a member can't show another's pass")
    if caller.key_thumbprint not in (None, dpop_jkt):
        raise InvalidRequestError("actor_token is bound to a key: send a DPoP proof by that key")
    return caller


def scopes_for_member(client: Client, actor: Caller | None, requested: str | None) -> frozenset[str]:
    """What the client may ask to do for a member; invalid_scope names all that it may not."""
    allowed = MEMBER_BOUND.intersection(client.scopes)
    if actor is not None:
        allowed &= actor.scopes
    asked = split_scopes(requested or "") or allowed
    if refused := asked - allowed:
        raise InvalidScopeError(printable(f"not for a member, or not this client's: {join_scopes(refused)}"))
    if not asked:
        raise InvalidScopeError("this client has no scope that needs a member")
    return asked


async def exchange_pass(posted: Posted, shown: str, scopes: frozenset[str], actor: Caller | None) -> Caller | None:
    """Uses the pass up: the caller that the new token speaks for, with what both the client asks for and the member's
    consent allows. None is the one answer to all that `use_pass` has one for, and to a consent without such a scope.

    An entry is written in each case, so that the answers take as long as each other, too.
    """
    session, client, now = posted.session, posted.client, posted.now
    if client.partner_id is None:
        raise UnauthorizedClientError("only a partner's client is shown passes")
    place = None if actor is None else await _place_of(session, actor)
    holder = await use_pass(session, shown, client.partner_id, now)
    hand = Actor(ActorKind.PARTNER, client.id, partner_id=client.partner_id)
    if holder is None or not scopes & holder.scopes:
        about = audit.Subject(partner_id=client.partner_id)
        await audit.record(session, "pass.shown", about, hand, now, refused=["NOT_AVAILABLE"])
        return None
    approval = Approval(
        id=new_id(),
        client_id=client.id,
        kind=CallerKind.PARTNER,
        subject=str(holder.member_id),
        partner_id=client.partner_id,
        member_id=holder.member_id,
        consent_id=holder.consent_id,
        scopes=sorted(scopes & holder.scopes),
        place=place,
        dpop_jkt=posted.key_thumbprint,
        created_at=now,
        expires_at=now + EXCHANGED_TOKENS_LIVE,
    )
    session.add(approval)
    session.add(
        Disclosure(
            member_id=holder.member_id,
            at=now,
            partner_id=client.partner_id,
            client_id=client.id,
            kind=DisclosureKind.MEMBERSHIP,
        )
    )
    await session.flush()
    about = audit.Subject(partner_id=client.partner_id, member_id=holder.member_id, subject_id=approval.id)
    await audit.record(session, "pass.shown", about, hand, now)
    return caller_of_approval(approval, client, frozenset(approval.scopes), holder.alias, posted.key_thumbprint)


async def _place_of(session: AsyncSession, actor: Caller) -> str | None:
    """Where the actor stands. The database says whether its approval holds, whatever a cache knows."""
    approval = None if actor.approval_id is None else await session.get(Approval, actor.approval_id)
    if approval is not None and approval.state != ApprovalState.ACTIVE:
        raise InvalidRequestError("actor_token: the access token was revoked")
    return None if approval is None else approval.place


class TokenExchangeGrant(Grant):
    """A pass becomes a token that speaks for its member at this partner (RFC 8693 section 2)."""

    GRANT_TYPE = GrantType.TOKEN_EXCHANGE

    async def answer(self) -> dict[str, Any]:
        """A token for two minutes, and nothing to refresh it with. Whatever is wrong with the pass is told alike."""
        posted, grounds = self.posted, self.posted.foundation
        shown = check_exchange(posted.form, grounds.authority)
        actor = await check_actor(posted.form, posted.client, posted.key_thumbprint, grounds.verifier, posted.now)
        scopes = scopes_for_member(posted.client, actor, posted.form.get("scope"))
        # Nothing is locked and no connection held while Valkey, which may be slow, is asked.
        await posted.session.commit()
        await grounds.attempts.hold_code(posted.client.id)
        caller = await exchange_pass(posted, shown, scopes, actor)
        if caller is None:
            raise InvalidRequestError("the pass does not hold: have the member show a new one")
        await posted.session.commit()
        await grounds.attempts.right_hold_code(posted.client.id)
        answer = token_answer(posted, caller, EXCHANGED_TOKENS_LIVE, None if actor is None else actor.id)
        return answer | {"issued_token_type": ACCESS_TOKEN_TYPE}
