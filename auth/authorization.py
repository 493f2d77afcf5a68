"""How a person is asked whether a client may act: the request, the question, the answer and the code, each once."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import sqlalchemy as sa
from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error, UnauthorizedClientError  # type: ignore[import-untyped]
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.responses import JSONResponse, Response

from auth.approvals import AT_WORK, LIFETIMES
from auth.caller import CallerKind
from auth.issuing import hash_of
from auth.requests import REQUEST_URI_PREFIX, is_echoed, leads_back, read_request, redirect_uri_of, whom_to_ask
from auth.scopes import SCOPES
from auth.server import NO_STORE, Posted
from auth.tables import Approval, AuthorizationRequest, BrowserSession, Client, ClientState, GrantType
from partners import audit, consents
from partners.actors import Actor, ActorKind
from partners.members import lock_member
from partners.references import MemberRef
from partners.tables import Partner, PartnerState
from partners.tables.columns import new_id
from partners.values import value

PUSHED_LIVES = timedelta(seconds=90)
QUESTION_LIVES = timedelta(minutes=10)
CODE_LIVES = timedelta(seconds=60)
CREDENTIAL_BYTES = 32
STOPPED = "This app can't be used at the moment"
OVER = "This question was answered already or has waited too long. Go back to the app and start again."


class PageError(Exception):
    """What a person has to be shown, because the browser must not be sent to an address that may be an attacker's."""

    def __init__(self, title: str, message: str) -> None:
        super().__init__(title)
        self.title = title
        self.message = message


class RedirectError(Exception):
    """A refusal for the client: the browser is to be sent to its own `url` (RFC 6749 section 4.1.2.1)."""

    def __init__(self, url: str) -> None:
        super().__init__("refused")
        self.url = url


@value
class Question:
    """What a person is asked, in words; `who` must be signed in, at `partner` if `who` is a partner's person."""

    client: str
    partner: Partner | None
    who: CallerKind
    scopes: list[tuple[str, str]]
    purpose: str
    redirect_uri: str
    expires_at: datetime

    def is_for(self, person: BrowserSession) -> bool:
        """Whether this person can answer."""
        if person.kind != self.who:
            return False
        return self.who is not CallerKind.PARTNER or (self.partner is not None and person.partner_id == self.partner.id)


@value
class Period:
    """For how long a member says yes; None: until it is withdrawn."""

    ends_at: datetime | None


async def push(posted: Posted) -> Response:
    """Keeps a request for later, under an address that nobody can guess (RFC 9126 section 2)."""
    if not posted.client.check_grant_type(GrantType.AUTHORIZATION_CODE):
        raise UnauthorizedClientError("the client may not use authorization codes")
    if "request_uri" in posted.form:
        raise InvalidRequestError("request_uri can't be pushed")
    request = read_request(posted.client, posted.form)
    if posted.key_thumbprint is not None:
        if request.dpop_jkt not in (None, posted.key_thumbprint):
            raise InvalidRequestError("dpop_jkt is not the key of the DPoP proof")
        request.dpop_jkt = posted.key_thumbprint
    secret = secrets.token_urlsafe(CREDENTIAL_BYTES)
    request.request_hash = hash_of(secret)
    request.created_at, request.expires_at = posted.now, posted.now + PUSHED_LIVES
    posted.session.add(request)
    await posted.session.flush()
    body = {"request_uri": REQUEST_URI_PREFIX + secret, "expires_in": int(PUSHED_LIVES.total_seconds())}
    return JSONResponse(body, 201, headers=NO_STORE)


async def begin(
    session: AsyncSession, parameters: Mapping[str, str], issuer: str, now: datetime
) -> AuthorizationRequest:
    """The request that a browser brings (RFC 6749 section 4.1.1): a pushed one is used up, a plain one is checked.

    PageError where nobody can be told but the person, RedirectError where the client can. Commit on success.
    """
    client = await _find_client(session, parameters.get("client_id"))
    if parameters.get("request_uri", "").startswith(REQUEST_URI_PREFIX):
        return await _begin_pushed(session, client, parameters["request_uri"], now)
    try:
        redirect_uri = redirect_uri_of(client, parameters)
    except OAuth2Error as error:
        raise PageError("The app sent you here with a mistake", f"{error.get_error_description()}.") from None
    try:
        if client.requires_pushed:
            raise InvalidRequestError("this client has to push its requests")
        request = read_request(client, parameters)
    except OAuth2Error as error:
        answer = {"error": error.error, "error_description": error.get_error_description()}
        state = parameters.get("state") if is_echoed(parameters.get("state")) else None
        raise RedirectError(_address(redirect_uri, state, issuer, answer)) from None
    request.created_at, request.started_at, request.expires_at = now, now, now + QUESTION_LIVES
    session.add(request)
    await session.flush()
    return request


async def _begin_pushed(session: AsyncSession, client: Client, request_uri: str, now: datetime) -> AuthorizationRequest:
    request = AuthorizationRequest
    started: AuthorizationRequest | None = await session.scalar(
        sa.update(request)
        .where(
            col(request.request_hash) == hash_of(request_uri.removeprefix(REQUEST_URI_PREFIX)),
            col(request.client_id) == client.id,
            col(request.started_at).is_(None),
            col(request.expires_at) > now,
        )
        .values(started_at=now, expires_at=now + QUESTION_LIVES)
        .returning(request)
        .execution_options(synchronize_session=False)
    )
    if started is None:
        raise PageError("This link works once", "It was used already or is too old. Go back to the app and try again.")
    return started


async def question_of(session: AsyncSession, request_id: UUID, now: datetime) -> Question:
    """What the person is to be asked, as long as nobody has answered and the time is not over; PageError."""
    request = await session.get(AuthorizationRequest, request_id)
    if request is None or request.started_at is None or request.decided_at is not None or request.expires_at <= now:
        raise PageError("Too late", OVER)
    client = await _find_client(session, request.client_id)
    if not leads_back(client, request.redirect_uri):
        raise PageError(STOPPED, "It was changed meanwhile. Go back to the app and start again.")
    who = whom_to_ask(client, request.scopes)
    words = consents.SCOPES if who is not CallerKind(client.kind) else SCOPES[who]
    return Question(
        client=client.name,
        partner=await session.get(Partner, client.partner_id) if client.partner_id is not None else None,
        who=who,
        scopes=[(scope, sentence) for scope, sentence in words.items() if scope in request.scopes],
        purpose=client.purpose,
        redirect_uri=request.redirect_uri,
        expires_at=request.expires_at,
    )


async def allow(
    session: AsyncSession,
    request_id: UUID,
    person: BrowserSession,
    *,
    pairwise_key: bytes,
    issuer: str,
    now: datetime,
    period: Period | None = None,
) -> str:
    """The person's yes, once: the address to send the browser to, with a code for 60 s (RFC 6749 section 4.1.2).

    A member's yes to a partner is a consent, made or renewed, for the `period` that was chosen. The rights are those
    that were asked for, that the client still has and that the person has; without any of them the client hears
    `access_denied`. PageError, after which nothing may be committed, when the question is over or not for this person.
    """
    question = await question_of(session, request_id, now)
    if not question.is_for(person):
        raise PageError("This question is for somebody else", f"You are signed in as {person.name}.")
    request = await _decide(session, request_id, now)
    client = await _find_client(session, request.client_id)
    scopes = frozenset(request.scopes) & frozenset(client.scopes)
    bound = question.who is not CallerKind(client.kind)
    scopes &= scopes if bound else frozenset(person.scopes)
    if not scopes:
        return _address(request.redirect_uri, request.client_state, issuer, {"error": "access_denied"})
    approval = Approval(
        id=new_id(),
        client_id=client.id,
        kind=client.kind,
        subject=person.subject,
        partner_id=client.partner_id,
        member_id=person.member_id,
        scopes=sorted(scopes),
        dpop_jkt=request.dpop_jkt,
        created_at=now,
        expires_at=now + (AT_WORK if question.who is CallerKind.PARTNER else LIFETIMES[CallerKind(client.kind)]),
    )
    if approval.member_id is not None:
        await _consent(session, approval, client if bound else None, period, pairwise_key, now)
    session.add(approval)
    await session.flush()
    code = secrets.token_urlsafe(CREDENTIAL_BYTES)
    request.approval_id, request.code_hash, request.expires_at = approval.id, hash_of(code), now + CODE_LIVES
    await session.flush()
    about = audit.Subject(partner_id=client.partner_id, member_id=approval.member_id, subject_id=approval.id)
    actor = Actor(ActorKind(person.kind), person.subject, person.partner_id, person.member_id)
    await audit.record(session, "client.approved", about, actor, now)
    return _address(request.redirect_uri, request.client_state, issuer, {"code": code})


async def _consent(
    session: AsyncSession,
    approval: Approval,
    client: Client | None,
    period: Period | None,
    pairwise_key: bytes,
    now: datetime,
) -> None:
    """The approval of a partner's client hangs from the member's consent, which keeps what it covered before and, if no
    other was chosen, the end that it had."""
    # At this moment the member may narrow a former consent, or be erased.
    member_id = (await lock_member(session, MemberRef(id=approval.member_id))).id
    if client is None or client.partner_id is None:
        return
    former = await consents.live_consent(session, member_id, client.partner_id)
    if former is not None and former.expires_at is not None and former.expires_at <= now:
        former = None
    consent, _ = await consents.grant_consent(
        session,
        MemberRef(id=member_id),
        client.partner_id,
        purpose=client.purpose,
        scopes=frozenset(approval.scopes).union(former.scopes if former is not None else ()),
        expires_at=period.ends_at if period is not None else None if former is None else former.expires_at,
        pairwise_key=pairwise_key,
        actor=Actor(ActorKind.MEMBER, str(member_id), member_id=member_id),
        now=now,
    )
    await session.flush()
    approval.consent_id = consent.id
    approval.expires_at = min(approval.expires_at, consent.expires_at or approval.expires_at)


async def refuse(session: AsyncSession, request_id: UUID, issuer: str, now: datetime) -> str:
    """The person's no, once: where to send the browser; PageError when the question is over."""
    request = await _decide(session, request_id, now)
    answer = {"error": "access_denied", "error_description": "the person said no"}
    return _address(request.redirect_uri, request.client_state, issuer, answer)


async def _decide(session: AsyncSession, request_id: UUID, now: datetime) -> AuthorizationRequest:
    request = AuthorizationRequest
    decided: AuthorizationRequest | None = await session.scalar(
        sa.update(request)
        .where(
            col(request.id) == request_id,
            col(request.started_at).is_not(None),
            col(request.decided_at).is_(None),
            col(request.expires_at) > now,
        )
        .values(decided_at=now)
        .returning(request)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if decided is None:
        raise PageError("Too late", OVER)
    return decided


async def _find_client(session: AsyncSession, client_id: str | None) -> Client:
    row = (
        await session.execute(
            sa.select(Client, col(Partner.state))
            .outerjoin(Partner, col(Partner.id) == col(Client.partner_id))
            .where(col(Client.id) == client_id)
        )
    ).one_or_none()
    if row is None or not row[0].check_grant_type(GrantType.AUTHORIZATION_CODE):
        raise PageError("This app is not known here", "Go back, and tell its makers if this happens again.")
    client: Client = row[0]
    if client.state != ClientState.ACTIVE or row[1] not in (None, PartnerState.ACTIVE):
        raise PageError(STOPPED, "It was stopped. Go back, and ask its makers.")
    return client


def _address(redirect_uri: str, state: str | None, issuer: str, answer: Mapping[str, str]) -> str:
    """The answer in the query, with who gives it (RFC 9207) and the client's own state; the address stays as it was."""
    parameters = {**answer, **({} if state is None else {"state": state}), "iss": issuer}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(parameters)}"
