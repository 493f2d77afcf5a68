"""Monthly statements: what a partner and the programme settle, for the partner itself and for staff."""

from datetime import datetime

import strawberry

from partners import statements
from partners.statements import End, Line, Open, Sum, Total, make_statement
from partners.tables import Bearer
from schema.context import Info
from schema.ids import PARTNER, PERK, REDEMPTION, show_id
from schema.permissions import Partners, Staff, field, object_type
from schema.references import PartnerBy
from schema.selection import selected

MAY_SETTLE = Partners("redemptions:read") | Staff("audit:read")


@object_type(permission=MAY_SETTLE, description="So many records, of so many units and so much.")
class StatementSum:
    count: int = field(description="How many redemptions or reversals.")
    units: int = field(description="Of how many units.")
    amount_minor: str = field(
        description="How much, in minor units of the currency: a whole number, as text since an Int may not hold it."
    )

    @classmethod
    def of(cls, one: Sum) -> "StatementSum":
        """In the API's words."""
        return cls(count=one.count, units=one.units, amount_minor=str(one.amount))


@object_type(permission=MAY_SETTLE, description="What was reversed at the cost of one side.")
class StatementReversals:
    borne_by: Bearer = field(description="Who bears it.")
    sum: StatementSum = field(description="How much.")


@object_type(permission=MAY_SETTLE, description="A redemption at one end of a line.")
class StatementEnd:
    redemption_id: strawberry.ID = field(description="Which.")
    index: int | None = field(description="The index of its entry in the log; null until it is there.")

    @classmethod
    def of(cls, end: End | None) -> "StatementEnd | None":
        """In the API's words."""
        if end is None:
            return None
        id = strawberry.ID(show_id(REDEMPTION, end.redemption_id))
        return cls(redemption_id=id, index=end.index)


@object_type(permission=MAY_SETTLE, description="What happened with one perk in one currency.")
class StatementLine:
    perk_id: strawberry.ID = field(description="Which perk.")
    handle: str = field(description="Its handle, as `partner/perk`.")
    title: str = field(description="Its title, as it is now.")
    currency_code: str | None = field(description="ISO 4217; null where no amounts were counted.")
    redeemed: StatementSum = field(description="What was confirmed in the month.")
    reversed: list[StatementReversals] = field(description="What was taken back in the month, whenever redeemed.")
    net_units: int = field(description="Redeemed less reversed.")
    net_amount_minor: str = field(description="Redeemed less reversed, in minor units: a whole number.")
    first: StatementEnd | None = field(description="The perk's first redemption of the month.")
    last: StatementEnd | None = field(description="The perk's last redemption of the month.")

    @classmethod
    def of(cls, line: Line) -> "StatementLine":
        """In the API's words."""
        return cls(
            perk_id=strawberry.ID(show_id(PERK, line.perk_id)),
            handle=line.handle,
            title=line.title,
            currency_code=line.currency,
            redeemed=StatementSum.of(line.redeemed),
            reversed=shown_reversals([line.reversed[bearer] for bearer in Bearer]),
            net_units=line.net_units,
            net_amount_minor=str(line.net_amount),
            first=StatementEnd.of(line.first),
            last=StatementEnd.of(line.last),
        )


@object_type(permission=MAY_SETTLE, description="The lines of one currency together.")
class StatementTotal:
    currency_code: str | None = field(description="ISO 4217; null for perks that count no amounts.")
    redeemed: StatementSum = field(description="What was confirmed.")
    reversed: list[StatementReversals] = field(description="What was taken back.")

    @classmethod
    def of(cls, currency: str | None, total: Total) -> "StatementTotal":
        """In the API's words."""
        redeemed = StatementSum.of(total.redeemed)
        return cls(currency_code=currency, redeemed=redeemed, reversed=shown_reversals(total.reversed))


@object_type(permission=MAY_SETTLE, description="Units of one perk that were under way at both ends of the month.")
class StatementOpen:
    perk_id: strawberry.ID = field(description="Which perk.")
    handle: str = field(description="Its handle.")
    held_before: int = field(description="Held as the month began.")
    held_after: int = field(description="Held as it ended.")
    awaited_before: int = field(description="Confirmed and not fulfilled as the month began.")
    awaited_after: int = field(description="Confirmed and not fulfilled as it ended.")

    @classmethod
    def of(cls, one: Open) -> "StatementOpen":
        """In the API's words."""
        return cls(
            perk_id=strawberry.ID(show_id(PERK, one.perk_id)),
            handle=one.handle,
            held_before=one.held_before,
            held_after=one.held_after,
            awaited_before=one.awaited_before,
            awaited_after=one.awaited_after,
        )


@object_type(permission=MAY_SETTLE, description="One partner's month. Once it is final nothing of it changes any more.")
class Statement:
    partner_id: strawberry.ID = field(description="Whose.")
    month: str = field(description="Which, as 2026-11.")
    time_zone: str = field(description="The programme's zone, whose month it is.")
    starts_at: datetime = field(description="From this moment on.")
    ends_at: datetime = field(description="Until before this moment.")
    made_at: datetime = field(description="When it was made.")
    final: bool = field(description="The month is over: five minutes after its end.")
    log_origin: str = field(description="Which log holds the entries; empty while there is none.")
    log_size: int = field(description="How many entries that had when this was made.")
    lines: list[StatementLine] = field(description="By perk and currency, in the order of the perks' handles.")
    totals: list[StatementTotal] = field(description="By currency.")
    open: list[StatementOpen] = field(description="What was under way, by perk.")
    html_url: str = field(description="The page to print, below the address of this service: for GET with a token.")
    csv_url: str = field(description="The same as CSV.")


def shown_reversals(sums: "list[Sum] | tuple[Sum, ...]") -> list[StatementReversals]:
    """One of each side, in the order of the bearers."""
    return [
        StatementReversals(borne_by=bearer, sum=StatementSum.of(one)) for bearer, one in zip(Bearer, sums, strict=True)
    ]


async def find_statement(info: Info, month: str, partner: PartnerBy | None = None) -> Statement:
    """The statement of a month; partners need not say whose."""
    context = info.context
    id, handle = (None, None) if partner is None else partner.names()
    async with context.resources.settling, context.resources.connection() as connection:
        found = await make_statement(
            connection, context.actor, month, context.now, id=id, handle=handle, with_open="open" in selected(info)
        )
    return shown(found)


def shown(found: statements.Statement) -> Statement:
    """In the API's words."""
    below = f"/statements/{found.partner}/{found.month.name}"
    return Statement(
        partner_id=strawberry.ID(show_id(PARTNER, found.partner_id)),
        month=found.month.name,
        time_zone=found.time_zone,
        starts_at=found.month.starts_at,
        ends_at=found.month.ends_at,
        made_at=found.made_at,
        final=found.final,
        log_origin=found.log_origin,
        log_size=found.log_size,
        lines=[StatementLine.of(line) for line in found.lines],
        totals=[StatementTotal.of(currency, total) for currency, total in found.totals.items()],
        open=[StatementOpen.of(one) for one in found.open],
        html_url=f"{below}.html",
        csv_url=f"{below}.csv",
    )
