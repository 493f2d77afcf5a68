"""Standing rights: granted, used at a counter, taken away, and read by partners, members and staff."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import strawberry

from partners import access, holds, redemptions
from partners.access import Right
from partners.eligibility import Decision, Known, Question
from partners.errors import BadInput, KeyReused
from partners.holds import Claimed
from partners.idempotency import checked_key, fingerprint
from partners.members import view_members
from partners.references import reachable_member
from partners.tables import AccessState, HoldState, PerkKind
from schema.catalogue import Perk, perks_by_id
from schema.claims import claim_repeatedly
from schema.context import Info
from schema.eligibility import question_of
from schema.ids import ACCESS, PERK, REDEMPTION, optional_id, read_id, show_id
from schema.members import MAY_SEE_TIER, Member
from schema.nodes import Node
from schema.outcomes import UserError, plain_error, user_errors
from schema.paging import Connection, connect, page_size, read_cursor
from schema.permissions import Authenticated, Partners, Staff, field, object_type
from schema.redemptions import disclose
from schema.references import MemberBy, PerkBy
from schema.selection import selected

strawberry.enum(AccessState, description="A right stands until its term ends (LAPSED) or it is taken away (REVOKED).")

MAY_GRANT = Partners("holds:write", "redemptions:write") | Staff("partners:admin")
MAY_USE = Partners("redemptions:write")
MAY_REVOKE = Partners("redemptions:reverse") | Staff("partners:admin")
REFUSALS_MAX = 16  # of grants under one key: each later one asks for those before it, too


@object_type(permission=Authenticated, description="A standing right that a perk of kind ACCESS gave, as it is now.")
class AccessGrant(Node):
    perk: Perk | None = field(description="What gave it.")
    member: Member | None = field(description="Whose it is; to a partner null once consent is withdrawn.")
    redemption_id: strawberry.ID = field(description="The redemption that it came with: to reverse, or to prove.")
    state: AccessState = field(description="Whether it stands.")
    tier: str | None = field(permission=MAY_SEE_TIER, description="The member's tier when it was claimed.")
    starts_at: datetime = field(description="When it was granted.")
    ends_at: datetime | None = field(description="The end of its term, exclusive; null: it has none.")
    uses_max: int | None = field(description="How often it can be used in all; null is no limit.")
    used: int = field(description="How often it was.")
    remaining: int | None = field(description="How often it still can be; null is no limit.")
    ended_at: datetime | None = field(description="When it ended; to a partner the day alone after a tier drop.")
    ended_reason: str | None = field(
        description="TERM_OVER, TIER_DROP or REVERSED; else what was said when it was taken away."
    )

    @classmethod
    def of(cls, right: Right, perk: Perk | None, member: Member | None) -> "AccessGrant":
        """A right with what was fetched beside it."""
        return cls(
            id=strawberry.ID(show_id(ACCESS, right.id)),
            perk=perk,
            member=member,
            redemption_id=strawberry.ID(show_id(REDEMPTION, right.redemption_id)),
            state=AccessState(right.state),
            tier=right.tier,
            starts_at=right.starts_at,
            ends_at=right.ends_at,
            uses_max=right.uses_max,
            used=right.used,
            remaining=right.remaining,
            ended_at=right.ended_at,
            ended_reason=right.ended_reason,
        )


async def rights_of(info: Info, rows: Sequence[Right], *, known: bool = False) -> list[AccessGrant]:
    """Rows as the caller may see them; perks and members, when selected, by one statement each. Rows that are about a
    `known` member tell of it without showing it, and so does a tier."""
    asker, names = info.context.asker("redemptions:read"), selected(info)
    known = known or info.context.actor.alias is not None
    perks: dict[UUID, Perk] = {}
    members: dict[UUID, Member] = {}
    if rows and "perk" in names:
        perks = await perks_by_id(info, {row.perk_id for row in rows})
    if rows and ("member" in names or (known and asker is not None)):
        async with info.context.reading() as session:
            views = await view_members(session, {row.member_id for row in rows}, asker=asker, now=info.context.now)
        members = {id: Member.of(view, for_partner=asker is not None) for id, view in views.items()}
    if asker is not None and "tier" in names:
        await disclose(info, {row.member_id for row in rows if row.tier is not None} - members.keys())
    return [AccessGrant.of(row, perks.get(row.perk_id), members.get(row.member_id)) for row in rows]


async def load_access(info: Info, wanted: access.RightFilter) -> AccessGrant | None:
    """The one right within the caller's reach that is wanted."""
    async with info.context.reading() as session:
        rows = await access.list_access(session, info.context.actor, wanted, first=1, after=None, now=info.context.now)
    shown = await rights_of(info, rows)
    return shown[0] if shown else None


@strawberry.input(description="Which rights; every condition that is given must hold.")
class AccessFilter:
    perk: strawberry.ID | None = strawberry.field(default=None, description="Of this perk.")
    member: MemberBy | None = strawberry.field(default=None, description="Of this member: by alias, or staff by id.")
    state: AccessState | None = strawberry.field(default=None, description="In this state now.")


def wanted_by(info: Info, filter: AccessFilter | None) -> access.RightFilter:
    """The filter in the domain's words; BadInput for a name of a member that the caller can't use."""
    filter = filter or AccessFilter()
    alias = member_id = None
    if filter.member is not None:
        reference = reachable_member(info.context.actor, filter.member.reference())
        if reference.external_id is not None:
            raise BadInput("member: by {alias} or {id}")
        alias, member_id = reference.alias, reference.id
    return access.RightFilter(
        perk_id=optional_id(PERK, filter.perk),
        member_id=member_id,
        alias=alias,
        state=None if filter.state is None else filter.state.value,
    )


async def find_access_grants(
    info: Info, filter: AccessFilter | None = None, first: int | None = None, after: str | None = None
) -> Connection[AccessGrant]:
    """A page of rights, newest first: one statement, and one for each of perks and members that are asked for."""
    size, wanted, context = page_size(first), wanted_by(info, filter), info.context
    seen, actor, now = read_cursor(after), context.actor, context.now
    async with context.reading() as session:
        rows = await access.list_access(session, actor, wanted, first=size + 1, after=seen, now=now)
    known = wanted.alias is not None or actor.alias is not None
    shown = await rights_of(info, rows[:size], known=known)

    async def count() -> int:
        async with context.reading() as counting:
            counted = await access.count_access(counting, actor, wanted, now)
        if known and counted and not rows:  # beyond the last page, too, the number tells of the member
            async with context.reading() as counting:
                one = await access.list_access(counting, actor, wanted, first=1, after=None, now=now)
            await rights_of(info, one, known=True)
        return counted

    page: Connection[AccessGrant] = connect(
        [*zip(rows, [*shown, None], strict=False)],
        size,
        after,
        id_of=lambda row: row[0].id,
        node_of=lambda row: row[1],
        counter=count,
    )
    return page


@strawberry.input(description="A right for a member, without a visit: claimed and confirmed at once.")
class GrantAccessInput:
    perk: PerkBy = strawberry.field(description="Of which perk, of kind ACCESS.")
    member: MemberBy | None = strawberry.field(
        default=None, description="For whom; a token that speaks for one member leaves it out."
    )
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per right.")


@object_type(permission=Authenticated, description="The right, or why there is none.")
class AccessPayload:
    access: AccessGrant | None = field(description="The right as it is now.")
    replayed: bool = field(description="Whether the key had acted before: this is the first answer again.")
    user_errors: list[UserError] = field(description="Why not; empty when it is done.")


def require_access(known: Known) -> None:
    """BadInput for a perk that gives no rights."""
    if known.perk.kind != PerkKind.ACCESS:
        raise BadInput(f"perk: it is of kind {known.perk.kind} and gives no standing right")


async def grant_access(info: Info, input: GrantAccessInput) -> AccessPayload:
    """Claims and confirms by the ordinary statements: every rule is asked, and a hold that can't be confirmed goes
    back. The key is bound twice: as it is by the claim, and with a line feed after it by the confirmation."""
    context, key = info.context, checked_key(input.idempotency_key)
    question = question_of(context, input.member, input.perk, "holds:write")
    perk, who = question.perk, question.member
    named = {"perk": [str(perk.id), perk.handle], "member": [str(who.id), who.alias, who.external_id]}
    content = fingerprint("grantAccess", named)
    async with context.resources.connection() as connection:
        granted = await access.find_granted(connection, context.actor, f"{key}\n")
    if granted is not None:
        if granted[1] != content:
            raise KeyReused("this idempotency key was used for something else")
        return await given(info, granted[0], replayed=True)
    claimed, decision = await claim_anew(info, question, key, content)
    if claimed.outcome == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if claimed.hold is None:
        errors = user_errors(decision, claimed.outcome, claimed.reasons, ["perk"])
        return AccessPayload(access=None, replayed=False, user_errors=errors)
    payload = await confirm(info, claimed.hold.id, f"{key}\n", content)
    if payload.access is None and claimed.outcome == "HELD":
        async with context.resources.connection() as connection:
            await holds.release_hold(connection, claimed.hold.id, context.actor, context.now)
    return payload


async def claim_anew(info: Info, question: Question, key: str, content: bytes) -> tuple[Claimed, Decision]:
    """The claim of a key; where it was not confirmed in time or refused to be, which uses up no key, the next one."""
    next_key = key
    for _ in range(REFUSALS_MAX):
        claimed, _, decision = await claim_repeatedly(info, question, next_key, content, require_access)
        if claimed.hold is None or claimed.hold.state not in (HoldState.RELEASED, HoldState.EXPIRED):
            break
        next_key = f"{key}\n{claimed.hold.id}"
    return claimed, decision


async def confirm(info: Info, hold_id: UUID, key: str, content: bytes) -> AccessPayload:
    """The hold's confirmation, and the right that it makes."""
    context = info.context
    async with context.resources.connection() as connection:
        outcome = await redemptions.confirm_hold(
            connection,
            hold_id=hold_id,
            code=None,
            actor=context.actor,
            key=key,
            fingerprint=content,
            now=context.now,
        )
    if outcome.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if outcome.id is None:
        return AccessPayload(access=None, replayed=False, user_errors=plain_error(outcome.code, ["member"]))
    return await given(info, outcome.id, replayed=outcome.replayed)


async def given(info: Info, redemption_id: UUID, *, replayed: bool) -> AccessPayload:
    """The right that a redemption came with."""
    right = await load_access(info, access.RightFilter(redemption_id=redemption_id, just_made=True))
    return AccessPayload(access=right, replayed=replayed, user_errors=[])


@strawberry.input(one_of=True, description="One right.")
class AccessBy:
    id: strawberry.Maybe[strawberry.ID] = strawberry.field(description="Its id.")
    code: strawberry.Maybe[str] = strawberry.field(
        description="The code of the hold that it came from, which the member keeps showing."
    )


@strawberry.input(description="A member is at the counter and uses a right.")
class UseAccessInput:
    access: AccessBy = strawberry.field(description="Which, by id or by code.")
    idempotency_key: str = strawberry.field(description="Yours to choose, 1 to 255 characters; once per use.")


async def use_access(info: Info, input: UseAccessInput) -> AccessPayload:
    """One use. Wrong codes all get NOT_AVAILABLE, and too many of them THROTTLED."""
    context, by = info.context, input.access
    key = checked_key(input.idempotency_key)
    code = None if by.code is None else by.code.value
    grant_id = None if by.id is None else read_id(ACCESS, by.id.value)
    if code is not None:
        await context.resources.try_code(context.caller.id)
    async with context.resources.connection() as connection:
        used = await access.use_access(
            connection,
            grant_id=grant_id,
            code=code,
            actor=context.actor,
            key=key,
            fingerprint=fingerprint("useAccess", {"access": str(grant_id), "code": code}),
            now=context.now,
        )
    if code is not None and used.code != "NOT_AVAILABLE":
        await context.resources.right_code(context.caller.id)
    if used.code == "KEY_REUSED":
        raise KeyReused("this idempotency key was used for something else")
    if used.use_id is None or used.grant_id is None:
        return AccessPayload(access=None, replayed=False, user_errors=plain_error(used.code, ["access"]))
    right = await load_access(info, access.RightFilter(id=used.grant_id, just_made=True))
    return AccessPayload(access=right, replayed=used.code == "REPLAYED", user_errors=[])


@strawberry.input(description="A right that is taken away.")
class RevokeAccessInput:
    access: strawberry.ID = strawberry.field(description="Which.")
    reason: str = strawberry.field(description="Why, 1 to 500 characters: the member reads it.")


async def revoke_access(info: Info, input: RevokeAccessInput) -> AccessPayload:
    """Takes a right away; what it came from stays redeemed. `reverseRedemption` gives that back, too."""
    context, grant_id = info.context, read_id(ACCESS, input.access)
    async with context.resources.connection() as connection:
        outcome = await access.revoke_access(connection, grant_id, input.reason, actor=context.actor, now=context.now)
    if outcome != "REVOKED":
        return AccessPayload(access=None, replayed=False, user_errors=plain_error(outcome, ["access"]))
    right = await load_access(info, access.RightFilter(id=grant_id, just_made=True))
    return AccessPayload(access=right, replayed=False, user_errors=[])
