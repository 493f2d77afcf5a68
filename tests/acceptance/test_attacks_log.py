"""What a partner could try to learn from proofs: whether others' redemptions exist, and when others acted."""

import asyncio
from statistics import median
from time import monotonic, perf_counter
from typing import Any
from uuid import uuid4

import pytest

from tests.api import Answer, Api, Voice
from tests.factories import Club
from tests.matrix_samples import Rows
from tests.sequencing import sequencer_on

PROOF = "query($id: ID!, $leafHash: String) { auditProof(redemptionId: $id, leafHash: $leafHash) { leafHash index } }"
RELEASE = "mutation($input: ReleaseHoldInput!) { releaseHold(input: $input) { leafHash userErrors { code } } }"
EXTEND = "mutation($input: ExtendHoldInput!) { extendHold(input: $input) { leafHash userErrors { code } } }"


async def sequenced(club: Club) -> None:
    """Everything so far has its place in the log."""
    await sequencer_on(club.database, club.keys).carry_over()


async def of_another(club: Club) -> dict[str, str]:
    """A hold, a redemption and a reversal at a partner of its own, by kind."""
    rows = await Rows.made(club)
    held = await club.hold(rows.member, rows.perk)
    redemption = await club.redeemed(await club.hold(rows.another_member, rows.perk))
    return {"hold": f"hold_{held.id.hex}", "redemption": f"redemption_{redemption.hex}"}


def without_its_id(answer: Answer) -> Any:
    return (
        answer.status,
        answer.body.get("data"),
        [error | {"extensions": error["extensions"] | {"requestId": ""}} for error in answer.body.get("errors", ())],
    )


@pytest.mark.parametrize("kind", ["hold", "redemption"])
async def test_anothers_row_is_answered_as_one_that_does_not_exist(api: Api, club: Club, kind: str) -> None:
    theirs, unknown = (await of_another(club))[kind], f"{kind}_{uuid4().hex}"
    stranger, nobody = api.partner(await club.partner()), api.member(await club.member())
    for logged in (False, True):
        for voice in (stranger, nobody):
            began = monotonic()
            answers = [without_its_id(await voice(PROOF, id=id)) for id in (theirs, unknown)]
            assert answers[0] == answers[1] == (200, {"auditProof": None}, [])
            assert monotonic() - began < 0.9, "to wait for the log to have it would tell that it is there"
        await sequenced(club) if not logged else None


async def test_the_time_that_a_refusal_takes_tells_nothing(api: Api, club: Club) -> None:
    theirs, stranger = (await of_another(club))["redemption"], api.partner(await club.partner())
    await sequenced(club)
    taken: dict[str, list[float]] = {"theirs": [], "unknown": []}
    for _ in range(60):
        for name, id in (("theirs", theirs), ("unknown", f"redemption_{uuid4().hex}")):
            began = perf_counter()
            await stranger(PROOF, id=id)
            taken[name].append(perf_counter() - began)
    ratio = median(taken["theirs"]) / median(taken["unknown"])
    assert 0.67 < ratio < 1.5, ratio


async def test_the_hash_of_anothers_leaf_opens_nothing(api: Api, club: Club) -> None:
    theirs, own = await of_another(club), await Rows.made(club)
    mine = f"redemption_{(await club.redeemed(await club.hold(own.member, own.perk))).hex}"
    await sequenced(club)
    stolen = (await api.staff()(PROOF, id=theirs["redemption"])).data["auditProof"]["leafHash"]
    voice = api.partner(own.partner)
    for id in (mine, theirs["redemption"], theirs["hold"]):
        assert (await voice(PROOF, id=id, leafHash=stolen)).data["auditProof"] is None
    assert (await voice(PROOF, id=mine)).data["auditProof"] is not None


@pytest.mark.parametrize("text", ["", "00", 63 * "0", 65 * "0", 64 * "g", "0x" + 62 * "0", 64 * "٣"])
async def test_what_is_no_hash_is_bad_input(api: Api, club: Club, text: str) -> None:
    answer = await api.partner(await club.partner())(PROOF, id=f"hold_{uuid4().hex}", leafHash=text)
    assert answer.code == "BAD_INPUT"


async def test_who_released_or_extended_can_prove_it_and_nobody_else_learns_when_it_was(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    partner, member = api.partner(rows.partner), api.member(rows.member)
    hold = {"hold": f"hold_{(await club.hold(rows.member, rows.perk)).id.hex}"}
    extended = (await partner(EXTEND, input=hold)).data["extendHold"]["leafHash"]
    released = (await member(RELEASE, input=hold)).data["releaseHold"]["leafHash"]
    assert len({extended, released, None}) == 3
    assert (await partner(RELEASE, input=hold)).data["releaseHold"] == {"leafHash": None, "userErrors": []}
    await sequenced(club)

    async def proven(voice: Voice, leaf_hash: str) -> bool:
        found = (await voice(PROOF, id=hold["hold"], leafHash=leaf_hash)).data["auditProof"]
        assert found is None or found["leafHash"] == leaf_hash
        return found is not None

    assert (await proven(partner, extended), await proven(partner, released)) == (True, False)
    assert (await proven(member, extended), await proven(member, released)) == (False, True)
    assert (await proven(api.staff(), extended), await proven(api.staff(), released)) == (True, True)
    assert not await proven(api.partner(rows.partner, name="another"), extended)


async def test_many_who_wait_for_the_log_hold_no_connections(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    id, voice = f"hold_{(await club.hold(rows.member, rows.perk)).id.hex}", api.partner(rows.partner)
    asked = [asyncio.create_task(voice(PROOF, id=id)) for _ in range(60)]
    await asyncio.sleep(0.3)
    began = monotonic()
    assert (await api.staff()("{ auditEntries(first: 1) { nodes { id } } }")).data["auditEntries"]["nodes"]
    assert monotonic() - began < 0.6
    await sequenced(club)
    assert all([(await one).data["auditProof"] for one in asked])


async def test_no_list_of_ids_that_are_guessed_makes_an_error_of_ours(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    for id in ("redemption_" + 32 * "f", "hold_" + 32 * "0", "_", "redemption_\x7f", "х" * 40, "redemption_" * 50):
        answer = await voice(PROOF, id=id)
        assert answer.body.get("data") == {"auditProof": None} or answer.code == "BAD_INPUT", id
