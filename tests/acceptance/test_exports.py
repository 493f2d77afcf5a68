"""Exports from end to end: asked for by the API, made by a worker, fetched by HTTP in any pieces by who may."""

import asyncio
import csv
import io
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from gateway import embedded, export_downloads
from gateway.database import Database
from gateway.settings import Settings
from partners import export_making, tables
from tests.api import Api, Voice
from tests.exporting import content, exporter, requested, seeded
from tests.factories import STAFF, Club, partner_actor
from tests.holders import key_client
from tests.serving import serving

OPERATIONS = Path(__file__).parents[2] / "schema" / "operations"
NOTHING = b""


async def do(voice: Voice, operation: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation, by its example document."""
    field = operation[0].lower() + operation[1:]
    found: dict[str, Any] = (await voice((OPERATIONS / f"{operation}.graphql").read_text(), input=given)).data[field]
    return found


async def ask(voice: Voice, **given: Any) -> dict[str, Any]:
    payload = await do(voice, "RequestExport", **({"kind": "REDEMPTIONS"} | given))
    assert payload["userErrors"] == []
    found: dict[str, Any] = payload["export"]
    return found


async def made(api: Api, voice: Voice, **given: Any) -> dict[str, Any]:
    """An export that is done, as `node` shows it."""
    export = await ask(voice, **given)
    await exporter(api.service.database, api.service.clock).work()
    query = "query($id: ID!) { node(id: $id) { ... on Export { id state rows total bytes downloadUrl expiresAt } } }"
    found: dict[str, Any] = (await voice(query, id=export["id"])).data["node"]
    assert (found["state"], found["rows"]) == ("DONE", found["total"])
    return found


async def fetch(voice: Voice, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    given = {} if voice.token is None else {"authorization": f"Bearer {voice.token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await voice.client.request(method, path, headers=given)


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The extensions of the one error of a refusal."""
    details: dict[str, Any] = response.json()["errors"][0]["extensions"]
    assert (response.status_code, details["code"]) == (status, code), response.text
    assert details["requestId"] == response.headers["x-request-id"]
    return details


async def a_partner(club: Club, redemptions: int = 1) -> tables.Partner:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    for _ in range(redemptions):
        await club.redeemed(await club.hold(await club.member(partner), perk))
    return partner


async def entries(club: Club, export: dict[str, Any]) -> list[tuple[str, str]]:
    """What the log says about an export, and who did it."""
    found = await club.sql(
        "SELECT action, actor_id FROM audit_entry WHERE subject_id = $1 ORDER BY id",
        UUID(hex=export["id"].removeprefix("export_")),
    )
    return [(one["action"].removeprefix("export."), one["actor_id"]) for one in found]


async def test_a_partner_asks_waits_fetches_and_reads_its_redemptions(api: Api, club: Club) -> None:
    voice = api.partner(await a_partner(club, 2))
    export = await ask(voice)
    assert (export["state"], export["rows"], export["downloadUrl"]) == ("QUEUED", 0, None)
    waiting = await fetch(voice, f"/exports/{export['id']}")
    assert refused(waiting, 409, "EXPORT_NOT_READY")["retryAfter"] == 5
    assert waiting.headers["retry-after"] == "5"
    await exporter(club.database, api.service.clock).work()
    list_exports = (OPERATIONS / "ListExports.graphql").read_text()
    [done] = (await voice(list_exports)).data["exports"]["nodes"]
    assert (done["id"], done["state"], done["rows"], done["total"]) == (export["id"], "DONE", 2, 2)
    response = await fetch(voice, done["downloadUrl"])
    assert (response.status_code, len(response.content)) == (200, done["bytes"])
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert re.fullmatch(
        r'attachment; filename="redemptions-\d{8}-[0-9a-f]{8}\.csv"', response.headers["content-disposition"]
    )
    assert response.headers["cache-control"] == "no-store"
    assert len(list(csv.DictReader(io.StringIO(response.text)))) == 2


async def test_a_file_says_of_each_member_what_the_api_says_at_that_moment(api: Api, club: Club) -> None:
    perk = await club.perk()
    partner = club.partners[perk.partner_id]
    for scopes in (None, ("redemptions:read",), ("member.tier:read",), ("eligibility:read",), ()):
        member = await club.member(partner)
        await club.redeemed(await club.hold(member, perk))
        if scopes is not None:
            await club.withdraw(member, partner)
        if scopes:
            await club.consent(member, partner, scopes=scopes)
    voice = api.partner(partner)
    query = "{ redemptions { nodes { id tier member { alias } } } }"
    nodes = (await voice(query)).data["redemptions"]["nodes"]
    shown = {one["id"]: (one["member"] and one["member"]["alias"], one["tier"]) for one in nodes}
    file = (await fetch(voice, (await made(api, voice, format="JSONL"))["downloadUrl"])).text.splitlines()
    exported = [httpx.Response(200, text=line).json() for line in file]
    assert {one["id"]: (one["alias"], one["tier"]) for one in exported} == shown
    assert len(set(shown.values())) == 4


async def test_the_log_names_who_asked_fetched_and_cancelled(api: Api, club: Club) -> None:
    partner = await a_partner(club)
    voice, another = api.partner(partner), api.partner(partner, name="another")
    export = await made(api, voice)
    url = export["downloadUrl"]
    await fetch(voice, url, "HEAD")
    await fetch(voice, url)
    await fetch(voice, url, range="bytes=10-")  # the rest of what it began
    await fetch(another, url, range="bytes=10-")  # which begins no byte earlier, and is told all the same
    await do(voice, "CancelExport", export=export["id"])
    me, it = f"client_client_{partner.handle}", f"client_another_{partner.handle}"
    assert await entries(club, export) == [
        ("requested", me),
        ("downloaded", me),
        ("downloaded", it),
        ("cancelled", me),
    ]
    refused(await fetch(voice, url), 410, "EXPORT_GONE")


async def test_a_failed_or_expired_one_has_no_file(api: Api, club: Club) -> None:
    voice = api.partner(await a_partner(club))
    export = await made(api, voice)
    id = UUID(hex=export["id"].removeprefix("export_"))
    await club.sql("UPDATE export SET expires_at = $2 WHERE id = $1", id, club.now)
    refused(await fetch(voice, export["downloadUrl"]), 410, "EXPORT_GONE")
    await club.sql("UPDATE export SET state = 'FAILED' WHERE id = $1", id)
    refused(await fetch(voice, export["downloadUrl"]), 410, "EXPORT_GONE")
    payload = await do(voice, "CancelExport", export=export["id"])
    assert [error["code"] for error in payload["userErrors"]] == ["WRONG_STATE"]


async def test_another_partners_export_is_not_there_whatever_is_asked(api: Api, club: Club) -> None:
    owner, stranger = await a_partner(club), await a_partner(club)
    export = await made(api, api.partner(owner))
    url, voice = export["downloadUrl"], api.partner(stranger)
    member = await club.member(owner)
    bound = api.bound(owner, await club.consent(member, owner))
    for other in (voice, api.staff(), bound):
        for headers in ({}, {"range": "bytes=0-9"}, {"if_range": '"any"', "range": "bytes=0-"}):
            refused(await fetch(other, url, **headers), 404, "NOT_FOUND")
        assert (await other("query($id: ID!) { export(id: $id) { id } }", id=export["id"])).data["export"] is None
        assert (await other("query($id: ID!) { node(id: $id) { id } }", id=export["id"])).data["node"] is None
        cancel = "mutation($input: CancelExportInput!) { cancelExport(input: $input) { export { id } } }"
        assert (await other(cancel, input={"export": export["id"]})).code == "NOT_FOUND"
    listed = "query($after: String) { exports(first: 100, after: $after) { nodes { id } edges { cursor } } }"
    cursor = (await api.partner(owner)(listed)).data["exports"]["edges"][0]["cursor"]
    assert (await voice(listed, after=cursor)).data["exports"]["nodes"] == []
    refused(await fetch(voice, f"/exports/redemptions-{export['id'][-8:]}.csv"), 404, "NOT_FOUND")
    assert (await entries(club, export))[1:] == []


async def test_rights_are_asked_for_at_the_download_too(api: Api, club: Club) -> None:
    partner = await a_partner(club)
    url = (await made(api, api.partner(partner)))["downloadUrl"]
    refused(await fetch(api.anonymous(), url), 401, "UNAUTHENTICATED")
    refused(await fetch(api.member(await club.member()), url), 403, "FORBIDDEN")
    missing = refused(await fetch(api.partner(partner, "perks:read"), url), 403, "INSUFFICIENT_SCOPE")
    assert missing["missingScopes"] == ["redemptions:read"]
    missing = refused(await fetch(api.partner(partner, "redemptions:read"), url), 403, "INSUFFICIENT_SCOPE")
    assert missing["missingScopes"] == ["member.tier:read"]
    without = (await made(api, api.partner(partner, "redemptions:read"), format="JSONL"))["downloadUrl"]
    response = await fetch(api.partner(partner, "redemptions:read"), without)
    assert response.json()["tier"] is None
    entries_file = (await made(api, api.staff("audit:read"), kind="ENTRIES"))["downloadUrl"]
    assert (await fetch(api.staff("audit:read"), entries_file)).status_code == 200
    refused(await fetch(api.staff("members:admin"), entries_file), 403, "INSUFFICIENT_SCOPE")


async def test_a_token_of_one_member_asks_for_nothing(api: Api, club: Club) -> None:
    partner = await a_partner(club)
    bound = api.bound(partner, await club.consent(await club.member(partner), partner))
    mutation = "mutation { requestExport(input: {kind: REDEMPTIONS}) { export { id } } }"
    assert (await bound(mutation)).code == "FORBIDDEN"
    assert (await api.member(await club.member())(mutation)).code == "FORBIDDEN"
    assert (await bound("{ exports { nodes { id } } }")).data["exports"]["nodes"] == []


async def test_a_token_that_is_bound_to_a_key_fetches_with_a_proof_for_the_address(
    api: Api, database: Database
) -> None:
    scopes = frozenset({"redemptions:read"})
    client = await key_client(database, api.client, api.service.settings.address, api.service.clock, scopes=scopes)
    nonce = await client.nonce()
    token = await client.bound_token(nonce)
    path = f"/exports/export_{UUID(int=1).hex}"

    async def fetched(proof: str) -> httpx.Response:
        return await api.client.get(path, headers={"authorization": f"DPoP {token}", "dpop": proof})

    refused(await fetched(client.proof("/graphql", nonce, token=token, method="GET")), 401, "UNAUTHENTICATED")
    refused(await fetched(client.proof(path, nonce, token=token)), 401, "UNAUTHENTICATED")
    good = await fetched(client.proof(path, nonce, token=token, method="GET"))
    refused(good, 404, "NOT_FOUND")
    assert good.headers["dpop-nonce"]


@pytest.fixture
async def one_file(api: Api, club: Club) -> tuple[Voice, str, bytes]:
    """A caller, the address of its file, and the whole of it."""
    voice = api.partner(await a_partner(club, 2))
    url = (await made(api, voice))["downloadUrl"]
    return voice, url, (await fetch(voice, url)).content


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-9", 0, 10),
    ("bytes=5-", 5, None),
    ("bytes=-7", -7, None),
    ("bytes=3-99999999", 3, None),
    ("bytes=-99999999", 0, None),
    ("bytes = 1-2", 1, 3),
]


@pytest.mark.parametrize(("asked", "first", "end"), RANGES)
async def test_a_range_is_answered_by_its_bytes(
    one_file: tuple[Voice, str, bytes], asked: str, first: int, end: int | None
) -> None:
    voice, url, whole = one_file
    response = await fetch(voice, url, range=asked)
    assert response.content == whole[first:end]
    start = first % len(whole)
    if len(response.content) == len(whole):
        assert response.status_code == 200
    else:
        assert response.status_code == 206
        said = f"bytes {start}-{start + len(response.content) - 1}/{len(whole)}"
        assert response.headers["content-range"] == said
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("asked", ["bytes=9-1", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=0x1-2"])
async def test_what_is_no_single_range_is_answered_by_the_whole(one_file: tuple[Voice, str, bytes], asked: str) -> None:
    voice, url, whole = one_file
    response = await fetch(voice, url, range=asked)
    assert (response.status_code, response.content) == (200, whole)


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=999999-9999999", "bytes=-0"])
async def test_a_range_beyond_the_end_is_told_how_long_the_file_is(
    one_file: tuple[Voice, str, bytes], asked: str
) -> None:
    voice, url, whole = one_file
    response = await fetch(voice, url, range=asked)
    assert refused(response, 416, "RANGE_NOT_SATISFIABLE")["size"] == len(whole)
    assert response.headers["content-range"] == f"bytes */{len(whole)}"


async def test_a_download_goes_on_only_with_the_file_it_began(one_file: tuple[Voice, str, bytes]) -> None:
    voice, url, whole = one_file
    head = await fetch(voice, url, "HEAD", range="bytes=5-")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    assert head.headers["accept-ranges"] == "bytes"
    etag = head.headers["etag"]
    same = await fetch(voice, url, range="bytes=5-", if_range=etag)
    assert (same.status_code, same.content) == (206, whole[5:])
    for condition in ('"another"', f"W/{etag}", "Sun, 22 Nov 2026 10:00:00 GMT"):
        other = await fetch(voice, url, range="bytes=5-", if_range=condition)
        assert (other.status_code, other.content) == (200, whole)


async def test_only_get_and_head_are_answered(one_file: tuple[Voice, str, bytes]) -> None:
    voice, url, _ = one_file
    for method in ("POST", "DELETE", "PUT"):
        response = await fetch(voice, url, method)
        refused(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("id", ["export_", "export_123", f"perk_{UUID(int=1).hex}", "x", f"export_{UUID(int=1).hex}"])
async def test_what_is_no_export_is_not_found(api: Api, id: str) -> None:
    refused(await fetch(api.staff(), f"/exports/{id}"), 404, "NOT_FOUND")


LENGTHEN = """
WITH more AS (
  INSERT INTO export_part (export_id, number, "offset", body)
  SELECT p.export_id, n * (SELECT count(*) FROM export_part) + p.number, n * e.bytes + p."offset", p.body
  FROM export_part p JOIN export e ON e.id = p.export_id CROSS JOIN generate_series(1, 49) n WHERE e.id = $1
)
UPDATE export SET bytes = 50 * bytes WHERE id = $1
"""


@pytest.fixture
async def large(
    empty_database: Database, club: Club, servers: embedded.Servers, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Api, Voice, str, bytes]]:
    """A service over a real HTTP server with a file of 15 MB in small parts, more than any socket holds."""
    monkeypatch.setattr(export_making, "PART_BYTES_MAX", 100_000)
    alone = Club(empty_database, club.programme, club.keys, club.now)
    partner = await seeded(alone, 1_000)
    export_id = await requested(empty_database, partner_actor(partner), club.now)
    await exporter(empty_database, lambda: club.now).work()
    await alone.sql(LENGTHEN, export_id)
    settings = Settings(
        database_url=empty_database.engine.url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        secret=SecretStr("a secret of the tests, 32 bytes or more"),
        database_connections=6,
    )
    async with serving(settings) as api:
        yield api, api.partner(partner), f"/exports/export_{export_id.hex}", await content(empty_database, export_id)


Large = tuple[Api, Voice, str, bytes]


async def test_ten_ranges_at_once_make_the_file_and_an_eleventh_has_to_wait(large: Large) -> None:
    _, voice, url, whole = large
    step = len(whole) // 10 + 1
    ranges = [f"bytes={start}-{start + step - 1}" for start in range(0, len(whole), step)]
    pieces = await asyncio.gather(*(fetch(voice, url, range=one) for one in ranges))
    assert {piece.status_code for piece in pieces} == {206}
    assert b"".join(piece.content for piece in pieces) == whole
    async with reading(large) as open_reader:
        readers = [await open_reader() for _ in range(10)]
        assert all(head.startswith(b"HTTP/1.1 200") for _, _, head in readers)
        assert refused(await fetch(voice, url), 503, "OVERLOADED")["retryAfter"] == 10
    async with asyncio.timeout(10):
        while (await fetch(voice, url, range="bytes=0-0")).status_code != 206:  # noqa: ASYNC110  until they are gone
            await asyncio.sleep(0.05)


@asynccontextmanager
async def reading(large: Large) -> AsyncIterator[Any]:
    """Readers on plain sockets that take the head of the answer and then nothing."""
    api, voice, url, _ = large
    writers = []

    async def open_reader() -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        host, port = api.client.base_url.host, api.client.base_url.port
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (host, port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=1024)
        writers.append(writer)
        request = f"GET {url} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {voice.token}\r\n\r\n"
        writer.write(request.encode())
        return reader, writer, await reader.readuntil(b"\r\n\r\n")

    yield open_reader
    for writer in writers:
        writer.close()


def parts_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that are read from now on."""
    read: list[int] = []
    read_part = export_downloads.read_part

    async def counted(connection: Any, export_id: UUID, number: int) -> Any:
        read.append(number)
        return await read_part(connection, export_id, number)

    monkeypatch.setattr(export_downloads, "read_part", counted)
    return read


async def connections_in_use(api: Api) -> int:
    checked_out: int = api.service.database.engine.pool.checkedout()  # type: ignore[attr-defined]
    return checked_out


async def test_who_reads_nothing_holds_no_connection_and_is_given_up(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, voice, url, whole = large
    monkeypatch.setattr("schema.staying.READ_S", 1.0)
    read = parts_read(monkeypatch)
    async with reading(large) as open_reader:
        reader, _, _ = await open_reader()
        await asyncio.sleep(0.5)
        assert await connections_in_use(api) == 0
        before = len(read)
        assert before < len(whole) / 100_000, "it waits for its reader"
        await asyncio.sleep(1)
        taken = 0
        async with asyncio.timeout(10):
            while piece := await reader.read(65_536):
                taken += len(piece)
        assert taken < len(whole)
        assert len(read) == before
    rest = await fetch(voice, url, range=f"bytes={taken}-")
    assert rest.content == whole[taken:]


async def test_who_goes_away_is_noticed_and_no_more_is_read_for_it(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, voice, url, whole = large
    read = parts_read(monkeypatch)
    async with reading(large) as open_reader:
        _, writer, _ = await open_reader()
        writer.transport.abort()
    await asyncio.sleep(0.5)
    assert len(read) < len(whole) / 100_000
    assert await connections_in_use(api) == 0
    assert (await fetch(voice, url)).content == whole


async def test_a_file_that_goes_while_it_is_read_ends_short_of_what_was_promised(large: Large) -> None:
    _, voice, url, _ = large
    given = {"authorization": f"Bearer {voice.token}"}
    api = large[0]

    async def download() -> None:
        async with voice.client.stream("GET", url, headers=given) as response:
            async for _ in response.aiter_raw(1000):
                async with api.service.database.connection() as connection:
                    await connection.execute("DELETE FROM export_part")
                await asyncio.sleep(0)

    with pytest.raises(httpx.RemoteProtocolError):
        await download()


async def test_staff_see_staffs_exports_and_limits_are_told_as_user_errors(api: Api, club: Club) -> None:
    voice = api.partner(await a_partner(club))
    for _ in range(2):
        await ask(voice)
    payload = await do(voice, "RequestExport", kind="REDEMPTIONS")
    assert payload["export"] is None
    assert [error["code"] for error in payload["userErrors"]] == ["EXPORT_LIMIT_REACHED"]
    export_id = await requested(club.database, STAFF, club.now)
    found = (await api.staff()("{ exports(first: 100) { nodes { id requestedBy partnerId } } }")).data["exports"]
    assert f"export_{export_id.hex}" in {one["id"] for one in found["nodes"]}
    partners = await club.sql("SELECT count(*) AS n FROM export WHERE partner_id IS NULL")
    assert len(found["nodes"]) == min(100, partners[0]["n"])
    assert (await voice("mutation { requestExport(input: {kind: ENTRIES}) { export { id } } }")).code == "BAD_INPUT"
    later = (club.now + timedelta(days=1)).isoformat()
    staff = await ask(api.staff(), since=later, partner=f"partner_{UUID(int=7).hex}")
    assert (staff["since"][:10], staff["partnerId"]) == (later[:10], f"partner_{UUID(int=7).hex}")
