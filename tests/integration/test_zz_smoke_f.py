"""smoke"""
from tests.exporting import *
async def test_smoke(club):
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    member = await club.member(partner)
    r = await club.redeemed(await club.hold(member, perk))
    out = await made_for(club, partner)
    print(out.decode())
    print((await made_for(club, partner, format=JSONL)).decode())
    print(len(await made_for(club, partner, format=PARQUET)))
    print((await made(club, format=JSONL)).decode()[-900:])
    from partners.log import sequence
    print((await made(club, kind=ExportKind.ENTRIES)).decode()[-900:])
