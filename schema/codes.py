"""Partners' codes: filling and emptying a pool, counting it, and the code of one redemption."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

import strawberry

from partners import pool_codes
from partners.errors import BadInput
from partners.pool_codes import Batch, Report, Stocked
from partners.tables import PerkKind
from schema.context import Info
from schema.perk_options import MAY_COUNT
from schema.permissions import Authenticated, field, object_type
from schema.references import PerkBy
from schema.selection import selected

CODES_MAX = 1_000
SHOWN = frozenset({"redemption.code", "nodes.code", "node.code"})


@object_type(permission=MAY_COUNT, description="A pool of codes in numbers; the codes themselves nobody sees here.")
class PerkCodes:
    total: int = field(description="All codes that are in it or were given out.")
    free: int = field(description="Those that a claim, or somebody who waits, may have.")
    held: int = field(description="Those that claims hold which are not confirmed yet.")
    assigned: int = field(description="Those that redemptions have.")
    low_at: int | None = field(description="Alarm when no more than so many are free.")

    @classmethod
    def of(cls, stocked: Stocked) -> "PerkCodes":
        """The numbers of one pool."""
        return cls(
            total=stocked.total,
            free=stocked.free,
            held=stocked.held,
            assigned=stocked.assigned,
            low_at=stocked.low_at,
        )


class Stockable(Protocol):
    """A perk on show."""

    kind: PerkKind
    row_id: UUID
    codes: PerkCodes | None


async def count_pools(info: Info, perks: Sequence[Stockable]) -> None:
    """Adds the numbers of their pools to those perks that have one, where somebody asked: one statement, or none."""
    ids = [perk.row_id for perk in perks if perk.kind is PerkKind.CODE] if "codes" in selected(info) else []
    if not ids:
        return
    async with info.context.resources.connection() as connection:
        stocked = await pool_codes.count_codes(connection, ids, info.context.now)
    for perk in perks:
        if perk.row_id in stocked:
            perk.codes = PerkCodes.of(stocked[perk.row_id])


async def codes_of(info: Info, redemption_ids: Collection[UUID]) -> dict[UUID, str]:
    """The codes of redemptions that the caller may see, where they are asked for: one statement, or none."""
    if SHOWN.isdisjoint(selected(info)) or not redemption_ids:
        return {}
    resources = info.context.resources
    async with resources.connection() as connection:
        return await pool_codes.read_codes(connection, redemption_ids, resources.keys.sealing)


@strawberry.input(description="Codes for the pool of a perk. More of them go by POST (docs/codes.md).")
class AddCodesInput:
    perk: PerkBy = strawberry.field(description="Whose pool, of kind CODE.")
    codes: list[str] = strawberry.field(description="1 to 1,000 of them, as the members will see them.")


@object_type(permission=Authenticated, description="A code that was not taken.")
class CodeFault:
    line: int = field(description="Its place in the list, from 1.")
    message: str = field(description="Why.")


@object_type(permission=Authenticated, description="What became of the codes.")
class AddCodesPayload:
    codes: PerkCodes | None = field(description="The pool as it is now.")
    added: int = field(description="How many are new in it.")
    duplicates: int = field(description="How many it has already, or were listed twice.")
    malformed: int = field(description="How many can't be codes of this perk.")
    faults: list[CodeFault] = field(description="The first hundred that were not taken.")


async def add_codes(info: Info, input: AddCodesInput) -> AddCodesPayload:
    """Adds what can be added, in one transaction, and names the rest."""
    context, given = info.context, input.codes
    if not 1 <= len(given) <= CODES_MAX:
        raise BadInput(f"codes: 1 to {CODES_MAX}", limit=CODES_MAX)
    async with context.resources.connection() as connection:
        pool = await pool_codes.find_pool(connection, input.perk.reference(), context.actor)
        batch = Batch(pool, context.resources.keys.sealing)
        await batch.take([(place, code.strip()) for place, code in enumerate(given, 1)])
        async with connection.transaction():
            report = await pool_codes.add_codes(connection, batch, context.actor, context.now)
        stocked = await pool_codes.count_codes(connection, [pool.perk_id], context.now)
    context.resources.freed.set()
    return reported(report, stocked[pool.perk_id])


def reported(report: Report, stocked: Stocked) -> AddCodesPayload:
    """A report as the API has it."""
    return AddCodesPayload(
        codes=PerkCodes.of(stocked),
        added=report.added,
        duplicates=report.duplicates,
        malformed=report.malformed,
        faults=[CodeFault(line=line, message=why) for line, why in report.faults],
    )


@strawberry.input(description="Codes that no member is to get any more.")
class WithdrawCodesInput:
    perk: PerkBy = strawberry.field(description="Out of whose pool.")
    codes: list[str] | None = strawberry.field(
        default=None, description="1 to 1,000 of them; null: all that nobody has yet."
    )


@object_type(permission=Authenticated, description="What became of the codes.")
class WithdrawCodesPayload:
    codes: PerkCodes | None = field(description="The pool as it is now.")
    withdrawn: int = field(description="How many were taken out; they may be added again.")
    assigned: int = field(description="How many redemptions have already: reverse those.")
    held: int = field(description="How many stay because as many claims are held: ask again once those have ended.")
    unknown: int = field(description="How many the pool never had.")


async def withdraw_codes(info: Info, input: WithdrawCodesInput) -> WithdrawCodesPayload:
    """Takes codes that nobody has out of a pool; the capacity shrinks, never below what is held."""
    context, given = info.context, input.codes
    if given is not None and not 1 <= len(given) <= CODES_MAX:
        raise BadInput(f"codes: 1 to {CODES_MAX}; leave them out for all", limit=CODES_MAX)
    async with context.resources.connection() as connection:
        pool = await pool_codes.find_pool(connection, input.perk.reference(), context.actor)
        key = context.resources.keys.sealing
        gone = await pool_codes.withdraw_codes(connection, pool, given, key, context.actor, context.now)
        stocked = await pool_codes.count_codes(connection, [pool.perk_id], context.now)
    return WithdrawCodesPayload(
        codes=PerkCodes.of(stocked[pool.perk_id]),
        withdrawn=gone.withdrawn,
        assigned=gone.given,
        held=gone.held,
        unknown=gone.unknown,
    )
