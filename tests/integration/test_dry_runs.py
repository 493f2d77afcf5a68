"""A dry run on a real database: how many statements it takes, and that it changes and tells nothing."""

import pytest

from partners.dry_runs import DryRun, dry_run
from partners.policies import validate_rules
from partners.references import PerkRef
from partners.tables.columns import new_id
from tests.factories import STAFF, Club


async def test_a_dry_run_takes_a_statement_for_each_few_hundred_members_and_leaves_no_trace(club: Club) -> None:
    partner = await club.partner()
    perk = await club.perk(partner, rules=[{"kind": "tier_at_least", "tier": "gold"}])
    members = [await club.member(partner) for _ in range(3)]
    withdrawn = await club.member(partner)
    await club.withdraw(withdrawn, partner)
    rules = validate_rules([{"kind": "tier_in", "allowed": ["silver"]}], club.programme.ranks)
    statements: list[str] = []
    before = await club.sql("SELECT count(*) AS n FROM audit_entry UNION ALL SELECT count(*) FROM disclosure")
    async with club.database.connection() as connection:

        async def run_dry() -> DryRun:
            reference, ranks = PerkRef(id=perk.id), club.programme.ranks
            return await dry_run(connection, reference, rules, ranks=ranks, sample=10, actor=STAFF, now=club.now)

        await run_dry()  # the driver learns of types at the first
        with connection.query_logger(lambda record: statements.append(record.query)):
            run = await run_dry()
    assert len(statements) == 2
    assert (run.members, run.lose, run.complete, set(run.lost)) == (3, 3, True, {member.id for member in members})
    after = await club.sql("SELECT count(*) AS n FROM audit_entry UNION ALL SELECT count(*) FROM disclosure")
    assert after == before


def test_counts_add_up_and_a_sample_has_an_end() -> None:
    run = DryRun()
    for before, after in ((True, True), (False, True), (False, True), (True, False), (False, False)):
        run.count(new_id(), before, after, 1)
    assert (run.members, run.gain, run.lose, run.keep, run.neither) == (5, 2, 1, 1, 1)
    assert (len(run.gained), len(run.lost)) == (1, 1)


@pytest.mark.parametrize("size", [0, 1, 4, 10, 13, 20])
def test_a_partner_is_told_one_of_the_tens_around_and_the_nearer_one_more_often(size: int) -> None:
    told = []
    for _ in range(500):
        run = DryRun()
        for _ in range(size):
            run.count(new_id(), False, True, 0)
        told.append(run.coarse("gain", b"a key"))
        assert run.coarse("gain", b"a key") == told[-1] == run.coarse("members", b"a key")
        assert run.coarse("lose", b"a key") == 0
    assert set(told) == {size // 10 * 10, -(-size // 10) * 10}
    assert abs(sum(told) / len(told) - size) < 1.5
