"""What is followed: the present state first, then every change, from whichever process it was made in."""

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from auth.caller import Caller, CallerKind
from auth.revocations import deny
from auth.scopes import scopes_of
from auth.tables import Denied
from auth.tokens import mint_access_token
from gateway import embedded
from gateway.database import Database
from gateway.settings import Settings
from partners import live, tables
from partners.actors import SYSTEM
from partners.audit import Subject, record
from partners.keys import Keys
from partners.programme import Programme
from tests.api import Api, Voice
from tests.factories import Club
from tests.followers import AVAILABILITY, HOLD, Line, following, line
from tests.serving import serving

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
CLAIM = "mutation($input: ClaimPerkInput!) { claimPerk(input: $input) { hold { id } userErrors { code } } }"
RELEASE = "mutation($input: ReleaseHoldInput!) { releaseHold(input: $input) { userErrors { code } } }"
CONFIRM = "mutation($input: ConfirmHoldInput!) { confirmHold(input: $input) { userErrors { code } } }"
PLACE = "subscription($entry: ID!) { waitlistPosition(entry: $entry) { state position endedAt } }"
THREAD = "subscription($request: ID!) { serviceThread(request: $request) { state revision } }"


@dataclass
class Stage:
    """Two gateways with their workers on one database and Valkey, and rows as of now."""

    here: Api
    there: Api
    club: Club


@pytest.fixture(scope="module")
async def pair(servers: embedded.Servers, database: Database, secret: bytes) -> AsyncIterator[tuple[Api, Api]]:
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr(secret.decode()),
    )
    async with AsyncExitStack() as opened:
        one = await opened.enter_async_context(serving(settings, work=True))
        yield one, await opened.enter_async_context(serving(settings, work=True))


@pytest.fixture
def stage(pair: tuple[Api, Api], database: Database, programme: Programme, keys: Keys) -> Stage:
    return Stage(*pair, Club(database, programme, keys, datetime.now(UTC)))


@dataclass
class Cast:
    """A perk with its partner, and a member who may claim it."""

    partner: tables.Partner
    perk: tables.Perk
    member: tables.Member
    alias: str

    @property
    def by(self) -> dict[str, str]:
        return {"id": f"perk_{self.perk.id.hex}"}


async def cast(club: Club, **settings: Any) -> Cast:
    perk = await club.perk(**settings)
    partner, member = club.partners[perk.partner_id], await club.member()
    return Cast(partner, perk, member, await club.consent(member, partner))


async def claimed(voice: Voice, who: Cast, key: str = "k") -> str:
    """The id of a new hold."""
    payload = (await voice(CLAIM, input={"perk": who.by, "idempotencyKey": key})).data["claimPerk"]
    assert payload["userErrors"] == []
    hold: str = payload["hold"]["id"]
    return hold


async def left(followed: Line) -> int | None:
    found: int | None = (await followed.next())["perkAvailability"]["capacityRemaining"]
    return found


async def test_the_present_state_comes_first_and_then_every_change_made_elsewhere(stage: Stage) -> None:
    who = await cast(stage.club, units=3)
    watching, elsewhere = stage.here.member(await stage.club.member()), stage.there.member(who.member)
    async with following(stage.here, watching, AVAILABILITY, perk=who.by) as followed:
        first = (await followed.next())["perkAvailability"]
        assert first == {"perk": who.by["id"], "state": "PUBLISHED", "capacityRemaining": 3}
        hold = await claimed(elsewhere, who)
        assert await left(followed) == 2
        await elsewhere(RELEASE, input={"hold": hold})
        assert await left(followed) == 3


async def test_who_comes_back_gets_the_present_state_first(stage: Stage) -> None:
    who = await cast(stage.club, units=3)
    watching = stage.here.member(await stage.club.member())
    async with following(stage.here, watching, AVAILABILITY, perk=who.by) as followed:
        assert await left(followed) == 3
    await claimed(stage.there.member(who.member), who)
    async with following(stage.here, watching, AVAILABILITY, perk=who.by) as followed:
        assert await left(followed) == 2
        async with following(stage.there, stage.there.member(who.member), AVAILABILITY, perk=who.by) as another:
            assert await left(another) == 2


async def test_a_perk_is_followed_by_its_handle_too_and_its_pausing_is_told(stage: Stage) -> None:
    who = await cast(stage.club, units=1)
    voice = stage.here.partner(who.partner)
    async with following(stage.here, voice, AVAILABILITY, perk={"handle": who.perk.handle}) as followed:
        assert (await followed.next())["perkAvailability"]["state"] == "PUBLISHED"
        await stage.club.set_state(who.perk.id, tables.PerkState.PAUSED)
        assert (await followed.next())["perkAvailability"]["state"] == "PAUSED"


OPTIONS = """subscription($perk: PerkBy!) {
  perkAvailability(perk: $perk) { capacityRemaining options { handle open capacityRemaining } } }"""


async def test_a_member_is_told_what_its_tier_reaches_and_at_once_when_a_pool_is_released(stage: Stage) -> None:
    perk = await event(stage.club)
    who = {"id": f"perk_{perk.id.hex}"}
    gold, black = await stage.club.member(tier="gold"), await stage.club.member(tier="black")
    released = datetime.now(UTC) + timedelta(seconds=2)
    schedule = [{"tier": "black", "until": released.isoformat()}]
    await stage.club.sql(
        "UPDATE pool SET schedule = $1::text::jsonb WHERE perk_id = $2 AND schedule <> '[]'",
        json.dumps(schedule),
        perk.id,
    )
    async with (
        following(stage.here, stage.here.member(gold), OPTIONS, perk=who) as at_gold,
        following(stage.here, stage.here.member(black), OPTIONS, perk=who) as at_black,
    ):

        def told(left: int) -> dict[str, Any]:
            return {
                "capacityRemaining": left,
                "options": [{"handle": "late", "open": True, "capacityRemaining": left}],
            }

        assert (await at_gold.next())["perkAvailability"] == told(6)
        assert (await at_black.next())["perkAvailability"] == told(10)
        assert (await at_gold.next(patience_s=4))["perkAvailability"] == told(10)
        assert timedelta(0) <= datetime.now(UTC) - released < timedelta(seconds=2)
        assert await at_black.silent()


async def event(club: Club) -> tables.Perk:
    """An event of one session with ten places, four of them kept for the highest tier."""
    begins = (club.now + timedelta(days=9)).replace(microsecond=0, tzinfo=None)
    pool = {"name": "first", "units": 4, "tiers": [{"tier": "black", "hours_before": 48}]}
    session = {"handle": "late", "title": "Late", "starts_at": begins.isoformat(), "places": 10, "pools": [pool]}
    return await club.perk(kind=tables.PerkKind.EVENT, settings={"sessions": [session]})


async def test_the_documents_of_the_repository_can_be_followed(stage: Stage) -> None:
    who = await cast(stage.club, units=1, waitlist={"offer_seconds": 3600})
    hold = await claimed(stage.here.member(await stage.club.member(who.partner)), who)
    given = {
        "FollowPerk": {"perk": who.by},
        "FollowHold": {"hold": hold},
        "FollowWaitlistEntry": {"entry": await joined(stage.here.member(who.member), who)},
        "FollowServiceRequest": {"request": await requested(stage.club, who)},
    }
    async with line(stage.here) as opened:
        await opened.init(stage.here.partner(who.partner))
        for path in OPERATIONS.glob("Follow*.graphql"):
            id = f"sha256:{sha256(path.read_text(encoding='utf-8').strip().encode()).hexdigest()}"
            payload = {"documentId": id, "variables": given.pop(path.stem)}
            await opened.say("subscribe", id=path.stem, payload=payload)
            [root] = (await opened.next()).values()
            assert root
    assert given == {}


async def test_what_is_out_of_sight_can_not_be_followed(stage: Stage) -> None:
    who, stranger = await cast(stage.club), await stage.club.partner()
    hold = await claimed(stage.here.member(who.member), who)
    draft = await stage.club.perk(state=tables.PerkState.DRAFT)
    another = stage.here.member(await stage.club.member())
    cases: list[tuple[Voice, str, dict[str, Any]]] = [
        (stage.here.partner(stranger), AVAILABILITY, {"perk": who.by}),
        (another, AVAILABILITY, {"perk": {"id": f"perk_{draft.id.hex}"}}),
        (another, AVAILABILITY, {"perk": {"handle": "nobody/nothing"}}),
        (another, HOLD, {"hold": hold}),
        (stage.here.partner(stranger), HOLD, {"hold": hold}),
    ]
    for voice, query, variables in cases:
        async with following(stage.here, voice, query, **variables) as followed:
            [error] = (await followed.hear("error"))["payload"]
            assert error["extensions"]["code"] == "NOT_FOUND", (query, variables)
    scopeless = stage.here.partner(who.partner, "consents:read")
    async with following(stage.here, scopeless, AVAILABILITY, perk=who.by) as followed:
        [error] = (await followed.hear("error"))["payload"]
        assert error["extensions"]["code"] == "INSUFFICIENT_SCOPE"


@pytest.mark.parametrize("kind", ["member", "partner", "staff"])
async def test_a_hold_is_followed_until_it_is_confirmed_elsewhere(stage: Stage, kind: str) -> None:
    who = await cast(stage.club)
    hold = await claimed(stage.there.member(who.member), who)
    own = {"member": stage.here.member(who.member), "partner": stage.here.partner(who.partner)}
    async with following(stage.here, own.get(kind) or stage.here.staff(), HOLD, hold=hold) as followed:
        assert (await followed.next())["holdState"]["state"] == "HELD"
        answer = await stage.there.partner(who.partner)(CONFIRM, input={"hold": {"id": hold}, "idempotencyKey": "c"})
        assert answer.data["confirmHold"]["userErrors"] == []
        assert (await followed.next())["holdState"]["state"] == "CONFIRMED"
        await followed.hear("complete")


async def test_a_hold_is_told_to_have_expired_at_its_time_without_any_news(stage: Stage) -> None:
    who = await cast(stage.club)
    hold = await claimed(stage.there.member(who.member), who)
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    await stage.club.sql("UPDATE hold SET expires_at = $1 WHERE perk_id = $2", ends, who.perk.id)
    async with following(stage.here, stage.here.member(who.member), HOLD, hold=hold) as followed:
        assert (await followed.next())["holdState"]["state"] == "HELD"
        assert (await followed.next(patience_s=4))["holdState"]["state"] == "EXPIRED"
        assert datetime.now(UTC) >= ends
        await followed.hear("complete")


async def test_withdrawn_consent_ends_what_a_token_for_that_member_follows(stage: Stage) -> None:
    who = await cast(stage.club)
    hold = await claimed(stage.there.member(who.member), who)
    async with following(stage.here, stage.here.bound(who.partner, who.alias), HOLD, hold=hold) as followed:
        assert (await followed.next())["holdState"]["state"] == "HELD"
        await stage.club.withdraw(who.member, who.partner)
        [error] = (await followed.hear("error"))["payload"]
        assert error["extensions"]["code"] == "NOT_FOUND"


async def test_what_a_token_for_one_member_is_told_is_kept_as_a_disclosure(stage: Stage) -> None:
    who = await cast(stage.club)
    hold = await claimed(stage.there.member(who.member), who)
    async with following(stage.here, stage.here.bound(who.partner, who.alias), HOLD, hold=hold) as followed:
        await followed.next()
        await stage.there.member(who.member)(RELEASE, input={"hold": hold})
        assert (await followed.next())["holdState"]["state"] == "RELEASED"
    kept = await stage.club.sql("SELECT kind FROM disclosure WHERE member_id = $1", who.member.id)
    assert [row["kind"] for row in kept].count("REDEMPTIONS") == 2


JOIN = "mutation($input: JoinWaitlistInput!) { joinWaitlist(input: $input) { entry { id } userErrors { code } } }"
LEAVE = "mutation($input: LeaveWaitlistInput!) { leaveWaitlist(input: $input) { userErrors { code } } }"


async def joined(voice: Voice, who: Cast) -> str:
    """The id of a new entry."""
    payload = (await voice(JOIN, input={"perk": who.by})).data["joinWaitlist"]
    assert payload["userErrors"] == []
    entry: str = payload["entry"]["id"]
    return entry


async def test_a_place_in_a_waitlist_moves_as_others_come_and_go(stage: Stage) -> None:
    who = await cast(stage.club, units=1, waitlist={"offer_seconds": 3600})
    first, higher = await stage.club.member(who.partner), await stage.club.member(who.partner, tier="black")
    holder = stage.there.member(await stage.club.member(who.partner))
    hold = await claimed(holder, who)
    ahead = await joined(stage.there.member(first), who)
    mine = await joined(stage.there.member(who.member), who)
    async with (
        following(stage.here, stage.here.member(who.member), PLACE, entry=mine) as followed,
        following(stage.here, stage.here.partner(who.partner), PLACE, entry=mine) as at_partner,
    ):

        async def both(**expected: Any) -> None:
            for one in (followed, at_partner):
                found = (await one.next())["waitlistPosition"]
                assert found | expected == found

        await both(state="WAITING", position=1, endedAt=None)
        highest = await joined(stage.there.member(higher), who)
        await both(position=2)
        await stage.there.member(first)(LEAVE, input={"entry": ahead})
        await both(position=1)
        await stage.there.member(higher)(LEAVE, input={"entry": highest})
        await both(position=0)
        await holder(RELEASE, input={"hold": hold})
        await both(state="OFFERED", position=None)
        await stage.there.member(who.member)(LEAVE, input={"entry": mine})
        await both(state="WITHDRAWN", position=None)
        await followed.hear("complete")
        await at_partner.hear("complete")


@pytest.mark.parametrize("bound", [False, True])
async def test_withdrawn_consent_ends_what_a_partner_follows_of_who_waits(stage: Stage, bound: bool) -> None:
    who = await cast(stage.club, units=1, waitlist={"offer_seconds": 3600})
    await claimed(stage.there.member(await stage.club.member(who.partner)), who)
    entry = await joined(stage.there.member(who.member), who)
    voice = stage.here.bound(who.partner, who.alias) if bound else stage.here.partner(who.partner)
    async with following(stage.here, voice, PLACE, entry=entry) as followed:
        assert (await followed.next())["waitlistPosition"]["position"] == 0
        await stage.club.withdraw(who.member, who.partner)
        [error] = (await followed.hear("error", patience_s=5))["payload"]
        assert error["extensions"]["code"] == "NOT_FOUND"


async def requested(club: Club, who: Cast) -> str:
    """The id of a bespoke request that was submitted."""
    thread = tables.Thread(opened_at=club.now)
    async with club.database.sessions.begin() as session:
        session.add(thread)
        await session.flush()
        request = tables.ServiceRequest(
            id=thread.id,
            perk_id=who.perk.id,
            partner_id=who.partner.id,
            member_id=who.member.id,
            state=tables.ServiceState.SUBMITTED,
            created_at=club.now,
            submitted_at=club.now,
        )
        session.add(request)
        return f"service_{thread.id.hex}"


async def test_a_thread_is_followed_by_its_member_and_its_partner(stage: Stage) -> None:
    who = await cast(stage.club)
    id = await requested(stage.club, who)
    thread_id = UUID(id.removeprefix("service_"))
    async with (
        following(stage.here, stage.here.member(who.member), THREAD, request=id) as followed,
        following(stage.there, stage.there.partner(who.partner), THREAD, request=id) as at_partner,
    ):
        for one in (followed, at_partner):
            assert (await one.next())["serviceThread"] == {"state": "SUBMITTED", "revision": 1}
        async with stage.club.database.sessions.begin() as session:
            changed = await session.get(tables.Thread, thread_id)
            assert changed is not None
            changed.revision = 2
            session.add(changed)
            subject = Subject(partner_id=who.partner.id, member_id=who.member.id, subject_id=thread_id)
            await record(session, "service.messaged", subject, SYSTEM, stage.club.now)
        for one in (followed, at_partner):
            assert (await one.next())["serviceThread"]["revision"] == 2


def token_of(api: Api, member: tables.Member, seconds: float = 300) -> Voice:
    caller = Caller(
        CallerKind.MEMBER, str(member.id), scopes_of(CallerKind.MEMBER), client_id="app", member_id=member.id
    )
    service = api.service
    lifetime = timedelta(seconds=seconds)
    return Voice(api.client, mint_access_token(service.ring, service.authority, caller, service.clock(), lifetime))


async def test_an_expired_token_ends_the_connection(stage: Stage) -> None:
    who = await cast(stage.club)
    voice = token_of(stage.here, who.member, 2)
    async with following(stage.here, voice, AVAILABILITY, perk=who.by) as followed:
        await followed.next()
        began = asyncio.get_running_loop().time()
        assert await followed.closed() == (4403, "the access token has expired")
        assert asyncio.get_running_loop().time() - began < 4


async def test_a_revoked_token_is_told_nothing_more(stage: Stage) -> None:
    who = await cast(stage.club, units=3)
    voice = token_of(stage.here, await stage.club.member())
    async with following(stage.here, voice, AVAILABILITY, perk=who.by) as followed:
        assert await left(followed) == 3
        async with stage.there.service.database.sessions.begin() as session:
            await deny(session, Denied.TOKEN, jti_of(voice), datetime.now(UTC))
        await asyncio.sleep(0.5)
        await claimed(stage.there.member(who.member), who)
        assert await followed.closed() == (4403, "the access token was revoked")


def jti_of(voice: Voice) -> str:
    assert voice.token is not None
    payload = voice.token.split(".")[1]
    jti: str = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"]
    return jti


async def test_two_hundred_who_follow_a_hot_perk_cost_one_reading_for_each_change(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await cast(stage.club, units=50, rules=[])
    voice, readings, browse = stage.here.member(await stage.club.member()), 0, live.browse

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal readings
        readings += 1
        return await browse(*given, **named)

    async with AsyncExitStack() as opened:
        lines = [await opened.enter_async_context(line(stage.here)) for _ in range(20)]
        for one in lines:
            await one.init(voice)
            for _ in range(10):
                await one.subscribe(AVAILABILITY, perk=who.by)
        for one in lines:
            assert [await left(one) for _ in range(10)] == [50] * 10
        await asyncio.sleep(0.5)
        monkeypatch.setattr(live, "browse", counted)
        for change in range(3):
            member = await stage.club.member(who.partner)
            await claimed(stage.there.member(member), who, f"c{change}")
            for one in lines:
                assert [await left(one) for _ in range(10)] == [49 - change] * 10
        # One for each change; a word of an earlier entry (the member who was enrolled has other names) wakes nobody.
        assert readings == 3


async def test_nothing_is_left_behind_when_a_client_leaves(stage: Stage) -> None:
    who = await cast(stage.club)
    hold = await claimed(stage.here.member(who.member), who)
    await settled(stage)
    before = running()
    async with line(stage.here) as opened:
        await opened.init(stage.here.member(who.member))
        for _ in range(5):
            await opened.subscribe(AVAILABILITY, perk=who.by)
            await opened.subscribe(HOLD, hold=hold)
        for _ in range(10):
            await opened.next()
        assert len(stage.here.service.resources.feeds) == 2
        await opened.say("complete", id="1")
    await settled(stage)
    for _ in range(100):  # a worker may be in the middle of something that it was not in before
        if running() <= before:
            break
        await asyncio.sleep(0.05)
    assert running() <= before


def running() -> int:
    """How many tasks there are, but for those by which workers sleep: they come and go with each of their rounds."""
    return sum("Event.wait" not in repr(task.get_coro()) for task in asyncio.all_tasks())


async def settled(stage: Stage) -> None:
    """Waits until nobody follows anything."""
    feeds = stage.here.service.resources.feeds
    for _ in range(200):
        if not (len(feeds) or feeds._tasks or feeds._named):
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert not feeds._tasks
