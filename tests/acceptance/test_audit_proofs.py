"""Proofs by the API: what a partner, a member and staff get of the log, checked as an outsider would."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.database import Database
from partners import proofs
from partners.merkle import is_consistent, is_included
from partners.notes import Checkpoint, Verifier, decoded, encoded, open_checkpoint, verifier_of
from partners.tables.columns import UUID
from partners.tlog_proofs import parse
from tests.api import Answer, Api
from tests.factories import Club, partner_actor
from tests.matrix_samples import Rows
from tests.sequencing import sequencer_on, write

GUIDE = Path(__file__).parents[2] / "docs" / "proofs.md"
PROOF = """query($id: ID!) { auditProof(redemptionId: $id) {
  leaf leafHash index treeSize hashes rootHash checkpoint proof } }"""
BARE = "query($id: ID!) { auditProof(redemptionId: $id) { leafHash index } }"
CHECKPOINT = """query($since: Int) { auditCheckpoint(since: $since) {
  note origin size rootHash consistency keys witnessed { note size witnesses at } } }"""
KEYS = "{ auditCheckpoint { keys } }"


async def sequenced(club: Club) -> None:
    """Everything so far has its place in the log."""
    await sequencer_on(club.database, club.keys).carry_over()


async def redeemed(club: Club, rows: Rows) -> str:
    return f"redemption_{(await club.redeemed(await club.hold(rows.member, rows.perk))).hex}"


async def verifiers(api: Api) -> list[Verifier]:
    keys = (await api.anonymous()(KEYS)).data["auditCheckpoint"]["keys"]
    return [Verifier.parse(key) for key in keys]


async def test_a_partner_proves_its_own_redemption_with_nothing_but_the_answer_and_the_logs_key(
    api: Api, club: Club
) -> None:
    rows = await Rows.made(club)
    id = await redeemed(club, rows)
    await sequenced(club)
    found = (await api.partner(rows.partner)(PROOF, id=id)).data["auditProof"]
    redemption = (await api.partner(rows.partner)("query($id: ID!) { redemption(id: $id) { leafHash } }", id=id)).data
    assert found["leafHash"] == redemption["redemption"]["leafHash"]
    assert sha256(b"\0" + found["leaf"].encode()).hexdigest() == found["leafHash"]
    keys = await verifiers(api)
    checkpoint = parse(found["proof"]).verify(found["leaf"].encode(), keys)
    assert checkpoint == open_checkpoint(found["checkpoint"], *keys)
    assert (checkpoint.size, encoded(checkpoint.root)) == (found["treeSize"], found["rootHash"])
    hashes = [decoded(one) for one in found["hashes"]]
    assert is_included(
        found["index"], found["treeSize"], bytes.fromhex(found["leafHash"]), hashes, decoded(found["rootHash"])
    )


async def test_what_a_partners_leaf_says_is_its_own(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    id = await redeemed(club, rows)
    await sequenced(club)
    leaf = json.loads((await api.partner(rows.partner)(PROOF, id=id)).data["auditProof"]["leaf"])
    [salt] = await club.sql("SELECT audit_salt FROM member WHERE id = $1", rows.member.id)
    hashed = sha256(salt["audit_salt"] + rows.partner.id.bytes + rows.member.id.bytes).hexdigest()
    assert (leaf["partner"], leaf["perk"]) == (str(rows.partner.id), str(rows.perk.id))
    assert leaf["subject"] == str(UUID(id.removeprefix("redemption_")))
    assert leaf["member"] == hashed
    assert leaf["actor"] in {"member", "system", f"partner:{partner_actor(rows.partner).id}"}


async def test_holds_and_reversals_are_proven_too_by_members_and_staff(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    hold = await club.hold(rows.member, rows.perk)
    reversal = await club.reverse(await club.redeemed(hold), partner_actor(rows.partner))
    assert reversal.id is not None
    await sequenced(club)
    keys = await verifiers(api)
    actions = {}
    for voice in (api.member(rows.member), api.staff(), api.partner(rows.partner)):
        for id in (f"hold_{hold.id.hex}", f"reversal_{reversal.id.hex}"):
            found = (await voice(PROOF, id=id)).data["auditProof"]
            parse(found["proof"]).verify(found["leaf"].encode(), keys)
            actions[id] = json.loads(found["leaf"])["action"]
    assert list(actions.values()) == ["perk.claimed", "redemption.reversed"]


async def test_the_leaf_is_for_who_may_read_the_tier_and_telling_it_leaves_a_disclosure(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    id = await redeemed(club, rows)
    await sequenced(club)
    kept = "SELECT kind FROM disclosure WHERE member_id = $1"
    before = len(await club.sql(kept, rows.member.id))
    scopeless = api.partner(rows.partner, "redemptions:read")
    assert (await scopeless(PROOF, id=id)).code == "INSUFFICIENT_SCOPE"
    assert (await scopeless(BARE, id=id)).data["auditProof"]["leafHash"]
    assert len(await club.sql(kept, rows.member.id)) == before
    assert (await api.partner(rows.partner)(PROOF, id=id)).data["auditProof"]["leaf"] is not None
    assert len(await club.sql(kept, rows.member.id)) == before + 1
    await club.withdraw(rows.member, rows.partner)
    after = (await api.partner(rows.partner)(PROOF, id=id)).data["auditProof"]
    assert (after["leaf"], bool(after["proof"])) == (None, True)
    assert len(await club.sql(kept, rows.member.id)) == before + 1
    assert (await api.member(rows.member)(PROOF, id=id)).data["auditProof"]["leaf"] is not None
    assert (await api.staff()(PROOF, id=id)).data["auditProof"]["leaf"] is not None


async def test_a_token_for_one_member_proves_that_members_alone(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    own = await redeemed(club, rows)
    hold = await club.hold(rows.another_member, rows.perk)
    await sequenced(club)
    bound = api.bound(rows.partner, rows.alias, "redemptions:read")
    assert (await bound(BARE, id=own)).data["auditProof"]
    assert (await bound(BARE, id=f"hold_{hold.id.hex}")).data["auditProof"] is None
    await club.withdraw(rows.member, rows.partner)
    assert (await bound(BARE, id=own)).data["auditProof"] is None


async def test_who_asks_before_the_log_has_it_waits_a_second_at_most(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    id = await redeemed(club, rows)
    voice, began = api.partner(rows.partner), monotonic()
    answer = await voice(BARE, id=id)
    assert (answer.code, answer.error["extensions"]["retryAfter"]) == ("TRY_AGAIN", 1)
    assert 0.9 < monotonic() - began < 3
    asked = asyncio.create_task(voice(BARE, id=id))
    await asyncio.sleep(0.2)
    await sequenced(club)
    assert (await asked).data["auditProof"]["index"] >= 0


@pytest.mark.parametrize("id", ["", "redemption_", "entry_" + 32 * "0", "perk_" + 32 * "0", "redemption_" + 32 * "G"])
async def test_other_ids_are_bad_input(api: Api, id: str) -> None:
    assert (await api.staff()(BARE, id=id)).code == "BAD_INPUT"


async def counted(api: Api, ask: Callable[[], Awaitable[Answer]]) -> int:
    """How many statements a question costs."""
    statements: list[str] = []
    engine = api.service.database.engine.sync_engine

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    reading = proofs.read_ranges

    async def read(connection: Any, ranges: Any) -> list[bytes]:
        with connection.query_logger(lambda record: statements.append(record.query)):
            return await reading(connection, ranges)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(proofs, "read_ranges", read)
            assert (await ask()).data
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return len(statements)


async def test_a_proof_costs_two_statements_and_one_more_when_a_partner_is_told_the_leaf(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    id = await redeemed(club, rows)
    await sequenced(club)
    assert await counted(api, lambda: api.partner(rows.partner)(BARE, id=id)) == 2
    assert await counted(api, lambda: api.member(rows.member)(PROOF, id=id)) == 2
    assert await counted(api, lambda: api.partner(rows.partner)(PROOF, id=id)) == 3


async def test_a_checkpoint_is_for_everybody_and_proves_that_it_continues_any_older_one(api: Api, club: Club) -> None:
    await write(club.database, club.now, 5)
    await sequenced(club)
    first = (await api.anonymous()(CHECKPOINT)).data["auditCheckpoint"]
    assert first["consistency"] is None
    await write(club.database, club.now, 300)
    await sequenced(club)
    keys = await verifiers(api)
    older = open_checkpoint(first["note"], *keys)
    found = (await api.anonymous()(CHECKPOINT, since=first["size"])).data["auditCheckpoint"]
    newer = open_checkpoint(found["note"], *keys)
    assert newer == Checkpoint(found["origin"], found["size"], decoded(found["rootHash"]))
    proof = [decoded(one) for one in found["consistency"]]
    assert is_consistent(older.size, newer.size, older.root, newer.root, proof)
    assert not is_consistent(older.size, newer.size, newer.root, newer.root, proof)
    for since in (0, found["size"]):
        assert (await api.anonymous()(CHECKPOINT, since=since)).data["auditCheckpoint"]["consistency"] == []


async def test_a_size_that_the_log_never_had_is_named(api: Api, club: Club) -> None:
    await write(club.database, club.now)
    await sequenced(club)
    size = (await api.anonymous()(CHECKPOINT)).data["auditCheckpoint"]["size"]
    for since in (-1, size + 1, 2**31 - 1):
        answer = await api.anonymous()(CHECKPOINT, since=since)
        assert (answer.code, answer.error["extensions"]["limit"]) == ("BAD_INPUT", size)
    assert "a larger one proves that it lost entries" in answer.error["message"]


async def test_the_last_witnessed_checkpoint_comes_with_it(api: Api, club: Club) -> None:
    await write(club.database, club.now)
    await sequenced(club)
    found = (await api.anonymous()(CHECKPOINT)).data["auditCheckpoint"]
    kept = "INSERT INTO witnessed_checkpoint (origin, size, note, witnesses, at) VALUES ($1, $2, $3, $4, $5)"
    for size, witnesses in ((1, 1), (found["size"], 2)):
        await club.sql(kept + " ON CONFLICT DO NOTHING", found["origin"], size, found["note"], witnesses, club.now)
    await club.sql(kept, "another.example/log", 10**9, "-", 9, club.now)
    witnessed = (await api.anonymous()(CHECKPOINT)).data["auditCheckpoint"]["witnessed"]
    assert (witnessed["size"], witnessed["witnesses"], witnessed["note"]) == (found["size"], 2, found["note"])
    await club.sql("DELETE FROM witnessed_checkpoint")


async def test_an_empty_log_has_no_checkpoint(empty_database: Database) -> None:
    async with empty_database.connection() as connection:
        assert await proofs.read_state(connection, None) is None
        assert await proofs.read_state(connection, 0) is None
        with pytest.raises(proofs.BadInput, match="since: 0 to 0"):
            await proofs.read_state(connection, 1)


async def test_entries_come_with_their_places_and_proofs(api: Api, club: Club) -> None:
    rows = await Rows.made(club)
    await redeemed(club, rows)
    asked = "id index leaf leafHash proof { index treeSize proof }"
    query = f"query($filter: AuditFilter) {{ auditEntries(filter: $filter) {{ nodes {{ {asked} }} }} }}"
    wanted = {"perk": f"perk_{rows.perk.id.hex}", "actions": ["perk.claimed", "hold.confirmed"]}
    before = (await api.staff()(query, filter=wanted)).data["auditEntries"]["nodes"]
    assert [(one["index"], one["proof"]) for one in before] == [(None, None)] * 2
    await sequenced(club)
    keys = await verifiers(api)
    found = (await api.staff()(query, filter=wanted)).data["auditEntries"]["nodes"]
    assert len(found) == 2
    for one in found:
        assert one["proof"]["index"] == one["index"]
        parse(one["proof"]["proof"]).verify(one["leaf"].encode(), keys)
    again = f"query($id: ID!) {{ node(id: $id) {{ ... on AuditEntry {{ {asked} }} }} }}"
    assert (await api.staff()(again, id=found[0]["id"])).data["node"] == found[0]


async def test_a_log_that_was_cut_short_under_a_reader_gives_no_false_proof(
    empty_database: Database, club: Club
) -> None:
    await write(empty_database, club.now, 3)
    await sequencer_on(empty_database, club.keys).carry_over()
    async with empty_database.connection() as connection:
        note = await connection.fetchval("SELECT checkpoint FROM log_head")
        leaf = await connection.fetchval("SELECT leaf_hash FROM log_leaf WHERE index = 1")
        assert (await proofs.prove(connection, note, {leaf: 1}))[leaf].index == 1
        with pytest.raises(proofs.TryAgain):
            await proofs.prove(connection, note, {leaf: 2})
        await connection.execute("DELETE FROM log_leaf WHERE index = 2")
        with pytest.raises(proofs.TryAgain):
            await proofs.prove(connection, note, {leaf: 1})


async def test_the_guide_checks_a_proof_with_nothing_of_ours(api: Api, club: Club, folder: Path) -> None:
    """The program in docs/proofs.md, as it stands, in an interpreter that can't see this project."""
    [program] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    (folder / "check.py").write_text(program, encoding="utf-8")
    rows = await Rows.made(club)
    await write(club.database, club.now, 7)
    id = await redeemed(club, rows)
    await write(club.database, club.now, 4)
    await sequenced(club)
    found = (await api.partner(rows.partner)(PROOF, id=id)).data["auditProof"]
    key = str((await verifiers(api))[0])

    async def checked(proof: str, leaf_hash: str, key: str) -> tuple[int, str]:
        (folder / "redemption.tlog-proof").write_text(proof, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "check.py", "redemption.tlog-proof", leaf_hash, key),
            cwd=folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, (out or err).decode().strip().splitlines()[-1]

    origin, size, _ = found["checkpoint"].split("\n")[:3]
    assert await checked(found["proof"], found["leafHash"], key) == (0, f"{origin}, {size} entries")
    other = sha256(b"another leaf").hexdigest()
    assert (await checked(found["proof"], other, key))[0] == 1
    moved = re.sub(r"index (\d+)", lambda place: f"index {int(place[1]) - 1}", found["proof"])
    assert (await checked(moved, found["leafHash"], key))[0] == 1
    forged = found["proof"].replace(f"\n{size}\n", f"\n{int(size) + 1}\n")
    assert (await checked(forged, found["leafHash"], key))[0] == 1
    stranger = str(verifier_of(origin, bytes(32)))
    assert await checked(found["proof"], found["leafHash"], stranger) == (1, "AssertionError: not signed with this key")
