"""OAuth clients by GraphQL: staff look after all of them, a partner's own administrators after the partner's alone."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from auth.caller import CallerKind
from auth.clients import Administrator, rotate_secret
from auth.tables import Approval
from partners import tables
from partners.actors import SYSTEM
from tests.api import Answer, Api, Voice
from tests.factories import Club

WHOLE = """
  id kind name state authentication scopes grantTypes redirectUris publicKeys requiresPushed requiresDpop purpose
  partner { handle } secrets { createdAt expiresAt } createdAt
"""
CREATE = f"mutation($input: CreateClientInput!) {{ createClient(input: $input) {{ secret client {{ {WHOLE} }} }} }}"
UPDATE = f"mutation($input: UpdateClientInput!) {{ updateClient(input: $input) {{ client {{ {WHOLE} }} }} }}"
ROTATE = f"""
mutation($input: RotateClientSecretInput!) {{ rotateClientSecret(input: $input) {{ secret client {{ {WHOLE} }} }} }}
"""
DISABLE = "mutation($input: ClientInput!) { disableClient(input: $input) { client { state } } }"
ENABLE = "mutation($input: ClientInput!) { enableClient(input: $input) { client { state } } }"
REVOKE = "mutation($input: RevokeApprovalInput!) { revokeApproval(input: $input) { approval } }"
CLIENT = f"query($id: ID!) {{ client(id: $id) {{ {WHOLE} }} }}"
CLIENTS = """
query($partner: PartnerBy, $first: Int, $after: String) {
  clients(partner: $partner, first: $first, after: $after) {
    nodes { id name } pageInfo { hasNextPage endCursor }
  }
}
"""
APPROVALS = """
query($id: ID!, $first: Int, $after: String) {
  client(id: $id) {
    approvals(first: $first, after: $after) {
      nodes { id who place scopes state createdAt expiresAt revokedAt reason } pageInfo { hasNextPage endCursor }
    }
  }
}
"""
SUSPEND = "mutation($input: PartnerInput!) { suspendPartner(input: $input) { partner { state } } }"
REINSTATE = "mutation($input: PartnerInput!) { reinstatePartner(input: $input) { partner { state } } }"
ENTRIES = """
query($filter: AuditFilter) { auditEntries(filter: $filter) { nodes { action reasons actorId partnerId } } }
"""
VIEWER = "{ viewer { scopes } }"
JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


async def create(voice: Voice, **given: Any) -> dict[str, Any]:
    """A client with its secret, as it was answered."""
    answer = await voice(CREATE, input={"name": "server", "scopes": ["perks:read"]} | given)
    found: dict[str, Any] = answer.data["createClient"]
    return {**found["client"], "secret": found["secret"]}


async def token(api: Api, client: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the token endpoint answers the client."""
    response = await api.client.post(
        "/oauth/token", data={"grant_type": "client_credentials"}, auth=(client["id"], client["secret"])
    )
    return response.status_code, response.json()


async def voice_of(api: Api, client: dict[str, Any]) -> Voice:
    """The client with a token that it has now."""
    status, body = await token(api, client)
    assert status == 200, body
    return Voice(api.client, body["access_token"])


async def approve(
    club: Club, client: dict[str, Any], partner: tables.Partner, *, member: tables.Member | None = None, **given: Any
) -> str:
    """The id of an approval, of a member or of a person at the partner."""
    row = Approval(
        client_id=client["id"],
        kind=CallerKind.PARTNER,
        subject=str(member.id) if member else "anna at the desk",
        partner_id=partner.id,
        member_id=member.id if member else None,
        scopes=["eligibility:read"],
        created_at=club.now,
        expires_at=club.now + timedelta(days=1),
        **given,
    )
    async with club.database.sessions.begin() as session:
        session.add(row)
    return f"approval_{row.id.hex}"


async def entries(api: Api, client: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What the log says of a client, oldest first."""
    found = (await api.staff()(ENTRIES, filter={"subject": client["id"]})).data["auditEntries"]["nodes"]
    return [(one["action"], one["reasons"]) for one in reversed(found)]


async def test_a_partner_registers_a_client_whose_secret_is_shown_once(api: Api, club: Club) -> None:
    partner = await club.partner()
    voice = api.partner(partner)
    made = await create(voice, name=" web shop ", scopes=["perks:read", "eligibility:read"])
    assert (made["name"], made["kind"], made["state"]) == ("web shop", "PARTNER", "ACTIVE")
    assert (made["authentication"], made["grantTypes"]) == ("SECRET", ["CLIENT_CREDENTIALS"])
    assert made["partner"] == {"handle": partner.handle}
    assert [one["expiresAt"] for one in made["secrets"]] == [None]
    assert (await voice_of(api, made)).token
    again = (await voice(CLIENT, id=made["id"])).body
    assert again["data"]["client"]["scopes"] == ["eligibility:read", "perks:read"]
    assert made["secret"] not in str(again)
    assert await entries(api, made) == [("client.created", [])]


async def test_a_client_with_redirects_and_one_with_a_key_of_its_own(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    web = await create(
        voice,
        grantTypes=["AUTHORIZATION_CODE", "REFRESH_TOKEN"],
        redirectUris=["https://shop.example/done"],
        requiresPushed=True,
        purpose="your tickets",
    )
    assert (web["redirectUris"], web["requiresPushed"]) == (["https://shop.example/done"], True)
    signing = await create(voice, authentication="KEY", publicKeys={"keys": [JWK]}, requiresDpop=True)
    assert (signing["secret"], signing["secrets"], signing["publicKeys"]) == (None, [], {"keys": [JWK]})
    public = await create(voice, authentication="NONE", grantTypes=["DEVICE_CODE"])
    assert public["secret"] is None
    for one in (signing, public):
        assert (await voice(ROTATE, input={"client": one["id"]})).code == "CONFLICT"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scope"),
        ({"scopes": ["perks:read", "me:read"]}, "me:read"),
        ({"grantTypes": ["AUTHORIZATION_CODE"]}, "redirectUris"),
        ({"grantTypes": ["AUTHORIZATION_CODE"], "redirectUris": ["http://shop.example/"]}, "redirectUris"),
        ({"authentication": "NONE"}, "grantTypes"),
        ({"authentication": "KEY", "publicKeys": {"keys": [JWK | {"d": "x"}]}}, "key 1"),
        ({"authentication": "KEY", "publicKeys": "keys"}, "JWK Set"),
        ({"kind": "STAFF", "scopes": ["audit:read"]}, "kind"),
        ({"partner": {"handle": "velo"}}, "partner"),
    ],
)
async def test_what_can_not_be_registered_is_named(api: Api, club: Club, given: dict[str, Any], named: str) -> None:
    answer = await api.partner(await club.partner())(CREATE, input={"name": "x", "scopes": ["perks:read"]} | given)
    assert answer.code == "BAD_INPUT"
    assert named in answer.error["message"]


async def test_staff_register_for_a_partner_and_for_the_operator(api: Api, club: Club) -> None:
    partner, staff = await club.partner(), api.staff("partners:admin")
    made = await create(staff, partner={"handle": partner.handle})
    assert made["partner"] == {"handle": partner.handle}
    app = await create(
        staff,
        kind="MEMBER",
        scopes=["me:read"],
        authentication="NONE",
        grantTypes=["AUTHORIZATION_CODE", "REFRESH_TOKEN"],
        redirectUris=["com.example.club:/done"],
    )
    assert (app["kind"], app["partner"]) == ("MEMBER", None)
    wrong: list[dict[str, Any]] = [{}, {"kind": "MEMBER", "scopes": ["me:read"], "partner": {"handle": partner.handle}}]
    for given in wrong:
        assert (await staff(CREATE, input={"name": "x", "scopes": ["perks:read"]} | given)).code == "BAD_INPUT"
    nobody = {"name": "x", "scopes": ["perks:read"], "partner": {"handle": "nobody"}}
    assert (await staff(CREATE, input=nobody)).code == "NOT_FOUND"


async def test_nobody_hands_on_more_than_the_own_token_carries(api: Api, club: Club) -> None:
    partner = await club.partner()
    strong = await create(api.partner(partner), scopes=["perks:read", "redemptions:write"])
    await api.partner(partner)(DISABLE, input={"client": strong["id"]})
    weak = api.partner(partner, "clients:manage", "perks:read", name="weak")
    assert (await create(weak))["scopes"] == ["perks:read"]
    attempts = [
        (CREATE, {"name": "x", "scopes": ["perks:read", "redemptions:write"]}),
        (UPDATE, {"client": (await create(weak))["id"], "scopes": ["perks:read", "redemptions:write"]}),
        (UPDATE, {"client": strong["id"], "name": "mine now"}),
        (ROTATE, {"client": strong["id"]}),
        (ENABLE, {"client": strong["id"]}),
    ]
    for query, input in attempts:
        answer = await weak(query, input=input)
        assert (answer.code, answer.error["extensions"]["missingScopes"]) == ("BAD_INPUT", ["redemptions:write"])
    taken = await weak(UPDATE, input={"client": strong["id"], "scopes": ["perks:read"]})
    assert taken.data["updateClient"]["client"]["scopes"] == ["perks:read"]


async def refused_as_unknown(voice: Voice, client_id: str) -> list[Answer]:
    """Every way to touch a client that is not there."""
    answers = [
        await voice(query, input={"client": client_id} | more)
        for query, more in [(UPDATE, {"name": "x"}), (ROTATE, {}), (DISABLE, {}), (ENABLE, {})]
    ]
    assert [answer.code for answer in answers] == ["NOT_FOUND"] * 4
    assert (await voice(CLIENT, id=client_id)).data == {"client": None}
    return answers


async def test_another_partners_client_is_as_unknown_as_one_that_is_not_there(api: Api, club: Club) -> None:
    own, other = await club.partner(), await club.partner()
    theirs = await create(api.partner(other))
    ours = await create(
        api.staff(),
        kind="STAFF",
        scopes=["audit:read"],
        grantTypes=["AUTHORIZATION_CODE"],
        redirectUris=["https://desk.example/done"],
    )
    voice = api.partner(own)
    told = [
        [(answer.error["message"], answer.status) for answer in await refused_as_unknown(voice, id)]
        for id in (theirs["id"], ours["id"], f"client_{uuid4().hex}", "x", "")
    ]
    assert all(one == told[0] for one in told)
    await create(voice)
    assert len((await voice(CLIENTS)).data["clients"]["nodes"]) == 1
    by_name = await voice(CLIENTS, partner={"handle": other.handle})
    assert by_name.data["clients"]["nodes"] == []
    approval = await approve(club, theirs, other)
    for id in (approval, f"approval_{uuid4().hex}"):
        assert (await voice(REVOKE, input={"approval": id})).code == "NOT_FOUND"
    assert (await token(api, theirs))[0] == 200


async def test_clients_are_paged_in_the_order_they_were_made(api: Api, club: Club) -> None:
    partner = await club.partner()
    made = [(await create(api.partner(partner), name=f"n{n}"))["id"] for n in range(5)]
    for voice in (api.partner(partner), api.staff()):
        seen, after = [], None
        while True:
            answer = await voice(CLIENTS, partner={"handle": partner.handle}, first=2, after=after)
            page = answer.data["clients"]
            seen += [node["id"] for node in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert seen == made
    for cursor in ("?", "_w", "AA", ""):
        assert (await api.staff()(CLIENTS, after=cursor)).code == "BAD_INPUT"


async def test_only_who_looks_after_clients_sees_them(api: Api, club: Club) -> None:
    partner, member = await club.partner(), await club.member()
    assert (await api.partner(partner, "perks:read")(CLIENTS)).code == "INSUFFICIENT_SCOPE"
    assert (await api.staff("audit:read")(CLIENTS)).code == "INSUFFICIENT_SCOPE"
    assert (await api.member(member)(CLIENTS)).code == "FORBIDDEN"
    assert (await api.anonymous()(CLIENTS)).code == "UNAUTHENTICATED"


async def test_scopes_that_are_taken_away_end_in_live_tokens_too(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    client = await create(voice, scopes=["perks:read", "eligibility:read"])
    former = await voice_of(api, client)
    assert (await former(VIEWER)).status == 200
    await voice(UPDATE, input={"client": client["id"], "scopes": ["perks:read"]})
    assert (await former(VIEWER)).code == "UNAUTHENTICATED"
    assert (await (await voice_of(api, client))(VIEWER)).data["viewer"]["scopes"] == ["perks:read"]
    assert await entries(api, client) == [("client.created", []), ("client.changed", ["SCOPES"])]


async def test_other_changes_leave_live_tokens_alone(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    client = await create(
        voice, grantTypes=["CLIENT_CREDENTIALS", "AUTHORIZATION_CODE"], redirectUris=["https://a.example/"]
    )
    live = await voice_of(api, client)
    changes = {"name": "till", "scopes": ["perks:read", "holds:write"], "redirectUris": ["https://b.example/"]}
    changed = await voice(UPDATE, input={"client": client["id"], "purpose": "your seats"} | changes)
    assert changed.data["updateClient"]["client"]["redirectUris"] == ["https://b.example/"]
    assert (await live(VIEWER)).data["viewer"]["scopes"] == ["perks:read"]
    assert (await entries(api, client))[1:] == [("client.changed", ["NAME", "SCOPES", "REDIRECT_URIS", "PURPOSE"])]
    assert (await voice(UPDATE, input={"client": client["id"], "name": "till"})).status == 200
    assert len(await entries(api, client)) == 2  # nothing changed the second time
    nothing: list[dict[str, Any]] = [{"name": None}, {"scopes": None, "purpose": None}, {"redirectUris": []}]
    for wrong in nothing:
        assert (await voice(UPDATE, input={"client": client["id"]} | wrong)).code == "BAD_INPUT"


async def test_a_disabled_client_has_no_tokens_until_it_is_enabled(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    client = await create(voice)
    former = await voice_of(api, client)
    input = {"client": client["id"]}
    assert (await voice(ENABLE, input=input)).code == "CONFLICT"
    assert (await voice(DISABLE, input=input)).data["disableClient"]["client"] == {"state": "DISABLED"}
    assert (await voice(DISABLE, input=input)).code == "CONFLICT"
    assert (await former(VIEWER)).code == "UNAUTHENTICATED"
    assert (await token(api, client))[0] == 401
    assert (await voice(ENABLE, input=input)).data["enableClient"]["client"] == {"state": "ACTIVE"}
    assert (await former(VIEWER)).code == "UNAUTHENTICATED"
    assert (await (await voice_of(api, client))(VIEWER)).status == 200
    assert [action for action, _ in await entries(api, client)] == [
        "client.created",
        "client.disabled",
        "client.enabled",
    ]


async def test_a_suspended_partners_tokens_all_end_and_new_ones_work_once_it_is_resumed(api: Api, club: Club) -> None:
    partner, staff = await club.partner(), api.staff("partners:admin")
    clients = [await create(api.partner(partner)) for _ in range(2)]
    other = await voice_of(api, await create(api.partner(await club.partner())))
    voices = [await voice_of(api, client) for client in clients]
    by = {"partner": {"handle": partner.handle}}
    assert (await staff(REINSTATE, input=by)).code == "CONFLICT"
    assert (await staff(SUSPEND, input=by)).data["suspendPartner"]["partner"] == {"state": "SUSPENDED"}
    assert (await staff(SUSPEND, input=by)).code == "CONFLICT"
    assert [(await voice(VIEWER)).code for voice in voices] == ["UNAUTHENTICATED"] * 2
    assert [(await token(api, client))[0] for client in clients] == [401, 401]
    assert (await other(VIEWER)).status == 200
    assert (await staff(REINSTATE, input=by)).data["reinstatePartner"]["partner"] == {"state": "ACTIVE"}
    assert [(await voice(VIEWER)).code for voice in voices] == ["UNAUTHENTICATED"] * 2
    assert (await (await voice_of(api, clients[0]))(VIEWER)).status == 200
    assert (await api.partner(partner)(SUSPEND, input=by)).code == "FORBIDDEN"
    assert (await staff(SUSPEND, input={"partner": {"handle": "nobody"}})).code == "NOT_FOUND"


async def test_two_secrets_are_good_during_the_overlap(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    client = await create(voice)
    rotated = (await voice(ROTATE, input={"client": client["id"]})).data["rotateClientSecret"]
    assert [one["expiresAt"] is None for one in rotated["client"]["secrets"]] == [False, True]
    newer = client | {"secret": rotated["secret"]}
    assert [(await token(api, one))[0] for one in (client, newer)] == [200, 200]
    third = (await voice(ROTATE, input={"client": client["id"], "overlapSeconds": 0})).data["rotateClientSecret"]
    assert len(third["client"]["secrets"]) == 1
    newest = client | {"secret": third["secret"]}
    assert [(await token(api, one))[0] for one in (client, newer, newest)] == [401, 401, 200]
    for seconds in (-1, 604_801):
        wrong = await voice(ROTATE, input={"client": client["id"], "overlapSeconds": seconds})
        assert wrong.code == "BAD_INPUT"
    assert [action for action, _ in await entries(api, client)] == ["client.created"] + ["client.secret_rotated"] * 2


async def test_an_elder_secret_never_lives_longer_by_another_rotation(api: Api, club: Club) -> None:
    client = await create(api.partner(await club.partner()))
    by, rows = Administrator(SYSTEM), "SELECT expires_at FROM client_secret WHERE client_id = $1 ORDER BY id"
    for days, kept in ((1, 1), (7, 7)):
        async with club.database.sessions.begin() as session:
            await rotate_secret(session, client["id"], timedelta(days=days), by, club.now)
        found = [row["expires_at"] for row in await club.sql(rows, client["id"])]
        assert found == [club.now + timedelta(days=kept), None]


async def test_fifty_rotations_at_once_leave_two_secrets(api: Api, club: Club) -> None:
    voice = api.partner(await club.partner())
    client = await create(voice)
    answers = await club.at_once(
        f"client WHERE id = '{client['id']}'", [voice(ROTATE, input={"client": client["id"]}) for _ in range(50)]
    )
    secrets = {answer.data["rotateClientSecret"]["secret"] for answer in answers}
    assert len(secrets) == 50
    statuses = [(await token(api, client | {"secret": one}))[0] for one in secrets | {client["secret"]}]
    assert sorted(statuses) == [200, 200] + [401] * 49
    rows = await club.sql("SELECT count(*) FROM client_secret WHERE client_id = $1", client["id"])
    assert rows[0]["count"] == 2


async def test_approvals_name_a_member_by_alias_and_a_person_by_its_subject(api: Api, club: Club) -> None:
    partner, other = await club.partner(), await club.partner()
    member = await club.member(other)
    alias = await club.consent(member, partner)
    voice = api.partner(partner)
    client = await create(voice)
    person = await approve(club, client, partner, place="Zurich, till 3")
    bound = await approve(club, client, partner, member=member)
    for asking in (voice, api.staff()):
        answer = await asking(APPROVALS, id=client["id"])
        [one, two] = answer.data["client"]["approvals"]["nodes"]
        assert (one["id"], one["who"], one["place"]) == (bound, alias, None)
        assert (two["id"], two["who"], two["place"]) == (person, "anna at the desk", "Zurich, till 3")
        assert str(member.id) not in str(answer.body)
        assert member.id.hex not in str(answer.body)
    page = (await voice(APPROVALS, id=client["id"], first=1)).data["client"]["approvals"]
    rest = await voice(APPROVALS, id=client["id"], first=1, after=page["pageInfo"]["endCursor"])
    assert [one["id"] for one in rest.data["client"]["approvals"]["nodes"]] == [person]


async def test_an_approval_is_revoked_once_and_the_consent_stays(api: Api, club: Club) -> None:
    partner = await club.partner()
    member = await club.member(partner)
    voice = api.partner(partner)
    client = await create(voice)
    approval = await approve(club, client, partner, member=member)
    answers = await asyncio.gather(*(voice(REVOKE, input={"approval": approval}) for _ in range(10)))
    assert sorted(
        answer.body.get("errors", [{"extensions": {"code": "DONE"}}])[0]["extensions"]["code"] for answer in answers
    ) == ["CONFLICT"] * 9 + ["DONE"]
    [shown] = (await voice(APPROVALS, id=client["id"])).data["client"]["approvals"]["nodes"]
    assert (shown["state"], shown["reason"]) == ("REVOKED", "BY_ADMINISTRATOR")
    consents = await club.sql("SELECT state FROM consent WHERE member_id = $1", member.id)
    assert [row["state"] for row in consents] == ["GRANTED"]
    revoked = await club.sql("SELECT 1 FROM revocation WHERE key = $1", str(tables.columns.UUID(approval[9:])))
    assert len(revoked) == 1
    found = (await api.staff()(ENTRIES, filter={"subject": approval})).data["auditEntries"]["nodes"]
    assert [(one["action"], one["partnerId"]) for one in found] == [("approval.revoked", f"partner_{partner.id.hex}")]
    assert (await voice(REVOKE, input={"approval": client["id"]})).code == "BAD_INPUT"
