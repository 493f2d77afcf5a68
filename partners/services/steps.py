"""The way of a bespoke request: who may take which step from which state, and what may stand in its way."""

from partners.actors import ActorKind
from partners.facts import RefusalCode
from partners.tables import ServiceState
from partners.values import value

DRAFT, SUBMITTED, QUOTED, APPROVED, DECLINED, SCHEDULED, FULFILLED, RECALLED, CANCELLED = ServiceState
ENDS = frozenset({DECLINED, FULFILLED, RECALLED, CANCELLED})
UNDECIDED = frozenset({SUBMITTED, QUOTED})
GRANTED = frozenset({APPROVED, SCHEDULED})
LIVE = UNDECIDED | GRANTED
NOWHERE: frozenset[ServiceState] = frozenset()

CONSENT, MEMBER, PARTNER, PERK, OVER = (
    RefusalCode.CONSENT_MISSING,
    RefusalCode.MEMBERSHIP_SUSPENDED,
    RefusalCode.PARTNER_SUSPENDED,
    RefusalCode.PERK_PAUSED,
    RefusalCode.ENDED,
)


@value
class Step:
    """One step: its name in the audit log, where it leads (None: nowhere else), from which states each side may take
    it, and what must not be so meanwhile. What ends a request, and what was promised, is minded less: a member who
    withdrew its consent can still be told no, and a service that was given is on record."""

    action: str
    to: ServiceState | None
    partner: frozenset[ServiceState] = NOWHERE
    member: frozenset[ServiceState] = NOWHERE
    staff: frozenset[ServiceState] = NOWHERE
    minds: tuple[RefusalCode, ...] = ()

    def allows(self, kind: ActorKind, state: str) -> bool:
        """Whether this side may take it from this state."""
        sides = {ActorKind.PARTNER: self.partner, ActorKind.MEMBER: self.member, ActorKind.STAFF: self.staff}
        return state in sides.get(kind, NOWHERE)


DRAW_UP = Step("service.drafted", None, member=frozenset({DRAFT}))
SUBMIT = Step("service.submitted", SUBMITTED, member=frozenset({DRAFT}))
QUOTE = Step("service.quoted", QUOTED, partner=UNDECIDED, minds=(CONSENT, MEMBER, PARTNER, PERK, OVER))
APPROVE = Step("service.approved", APPROVED, partner=frozenset({SUBMITTED}), member=frozenset({QUOTED}))
DECLINE = Step("service.declined", DECLINED, partner=UNDECIDED, member=frozenset({QUOTED}))
SCHEDULE = Step("service.scheduled", SCHEDULED, partner=GRANTED, minds=(CONSENT, MEMBER, PARTNER))
FULFIL = Step("service.fulfilled", FULFILLED, partner=GRANTED)
RECALL = Step("service.recalled", RECALLED, member=frozenset({DRAFT, SUBMITTED, QUOTED}))
CANCEL = Step("service.cancelled", CANCELLED, partner=LIVE, staff=LIVE)
ASSIGN = Step("service.assigned", None, partner=LIVE, staff=LIVE)
SAY = Step("service.messaged", None, partner=LIVE, member=LIVE, staff=LIVE, minds=(CONSENT, PARTNER))

STEPS = (DRAW_UP, SUBMIT, QUOTE, APPROVE, DECLINE, SCHEDULE, FULFIL, RECALL, CANCEL, ASSIGN, SAY)
