"""Webhooks without I/O: signatures that outside libraries verify, when is tried again, and what partners are told."""

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from partners.errors import BadInput
from partners.keys import derive_keys
from partners.tables import MessageState, SecretKind
from partners.webhooks.content import Told, body_of
from partners.webhooks.events import EVENTS, KINDS, UNTOLD, entry_of, message_name, public_id
from partners.webhooks.messages import Leased
from partners.webhooks.outcomes import Attempt, judged
from partners.webhooks.schedule import ATTEMPTS_MAX, REST_S_MAX, TRIPS_AT, Health, delay_after, tried_at
from partners.webhooks.signing import headers_of, new_secret, read_secret
from tests.webhook_tables import attempts, catalogue, untold

KEYS = derive_keys(b"a secret of the tests, 32 bytes or more")
NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
ACTION = re.compile(r"""["']([a-z_]+\.(?:[a-z_]+ed|shown|low))["']""")


def test_both_signatures_are_verified_by_others_and_several_secrets_sign() -> None:
    secrets = [new_secret(SecretKind.HMAC), new_secret(SecretKind.ED25519), new_secret(SecretKind.HMAC)]
    body, at = b'{"type":"perk.claimed"}', int(datetime.now(UTC).timestamp())
    headers = headers_of(secrets, "evt_1", at, body)
    for one in (secrets[0], secrets[2]):
        assert Webhook(one.shown).verify(body, headers) == {"type": "perk.claimed"}
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(secrets[1].shown.removeprefix("whpk_")))
    [signature] = [one for one in headers["webhook-signature"].split() if one.startswith("v1a,")]
    public.verify(base64.b64decode(signature.removeprefix("v1a,")), b"evt_1.%d." % at + body)


@pytest.mark.parametrize("size", [24, 64])
def test_a_shared_secret_that_is_given_is_taken(size: int) -> None:
    shown = "whsec_" + base64.b64encode(bytes(size)).decode()
    assert read_secret(shown).shown == shown


@pytest.mark.parametrize(
    "given",
    [
        *("", "whsec_", "whsec_AAAA", "whsec_é" + "A" * 40, "whsk_" + "A" * 44, base64.b64encode(bytes(32)).decode()),
        *("whsec_" + base64.b64encode(bytes(size)).decode() for size in (23, 65)),
    ],
)
def test_anything_else_is_no_shared_secret(given: str) -> None:
    with pytest.raises(BadInput, match="24 to 64 bytes"):
        read_secret(given)


@given(st.uuids())
def test_a_message_s_name_is_read_back_and_shares_nothing_with_its_entry(entry: UUID) -> None:
    assert entry_of(KEYS, public_id(KEYS, entry)) == entry
    assert message_name(KEYS, entry) == f"evt_{public_id(KEYS, entry).hex}"
    assert entry.hex[:12] not in message_name(KEYS, entry)


def test_attempts_are_spread_over_about_three_days() -> None:
    moments = tried_at()
    assert len(moments) == ATTEMPTS_MAX == 14
    assert timedelta(days=2, hours=12) < moments[-1] < timedelta(days=3)


@given(st.integers(1, ATTEMPTS_MAX - 1), st.floats(0, 1), st.none() | st.timedeltas(timedelta(0), timedelta(days=1)))
def test_a_delay_is_jittered_and_never_shorter_for_being_asked_to_wait(
    attempts: int, chance: float, asked: timedelta | None
) -> None:
    usual = tried_at()[attempts] - tried_at()[attempts - 1]
    delay = delay_after(attempts, chance, asked)
    assert delay is not None
    assert 0.79 * usual <= delay
    assert delay <= max(1.21 * usual, min(asked or timedelta(0), timedelta(hours=6)))
    assert delay_after(ATTEMPTS_MAX, chance, asked) is None


@given(st.lists(st.booleans(), max_size=40), st.floats(0, 1))
def test_a_breaker_rests_only_after_failures_in_a_row_and_any_success_closes_it(
    outcomes: list[bool], chance: float
) -> None:
    health, row = Health(), 0
    for place, succeeded in enumerate(outcomes):
        now = NOW + timedelta(minutes=place)
        health = Health() if succeeded else health.after_failure(now, chance)
        row = 0 if succeeded else row + 1
        assert health.failures == row
        assert health.is_open == (row >= TRIPS_AT)
        assert (health.retry_at is None) == (row < TRIPS_AT)
        if health.retry_at is not None:
            assert timedelta(seconds=20) < health.retry_at - now <= timedelta(seconds=1.21 * REST_S_MAX)


def attempt(**answered: object) -> Attempt:
    told = Told("perk.claimed", NOW, uuid4(), uuid4(), [], "{}", b"\x01", False, None)
    message = Leased(uuid4(), uuid4(), NOW, 0, uuid4(), "https://a.example.com/", 1, 0, None, told)
    return Attempt(message, NOW, 1, **answered)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "succeeds"),
    [
        *((status, True) for status in (200, 202, 204, 299)),
        *((status, False) for status in (100, 301, 308, 400, 404, 410, 429, 500, 503, None)),
    ],
)
def test_any_2xx_is_a_success_and_nothing_else(status: int | None, succeeds: bool) -> None:
    tried = attempt(status=status)
    assert tried.ending(NOW, 0.5)[0] is (MessageState.DELIVERED if succeeds else MessageState.PENDING)
    assert judged(Health(3, NOW), [attempt(status=500), tried], NOW, 0.5).failures == (0 if succeeds else 4)


def test_only_429_and_503_may_ask_to_wait() -> None:
    hour = timedelta(hours=1)
    waits = {status: attempt(status=status, asked=hour).ending(NOW, 0.5)[1] - NOW for status in (429, 503, 500)}
    assert waits == {429: hour, 503: hour, 500: timedelta(seconds=5)}


def told(**changes: object) -> Told:
    values = {"action": "redemption.reversed", "at": NOW, "perk_id": UUID(int=1), "subject_id": UUID(int=2)}
    values |= {"reasons": ["RESTOCK"], "leaf": '{"units":2,"amount":1500}', "leaf_hash": b"\xab" * 32}
    return Told(**(values | {"staggered": False, "alias": "abc"} | changes))  # type: ignore[arg-type]


def test_what_is_told_is_thin_and_has_the_api_s_ids() -> None:
    assert orjson.loads(body_of(told())) == {
        "type": "redemption.reversed",
        "timestamp": "2026-03-29T01:30:00.000000Z",
        "data": {
            "perk": f"perk_{1:032x}",
            "redemption": f"redemption_{2:032x}",
            "member": "abc",
            "units": 2,
            "amountMinor": 1500,
            "reasons": ["RESTOCK"],
            "leafHash": "ab" * 32,
        },
    }


def test_of_what_is_staggered_the_day_alone_is_told() -> None:
    event = orjson.loads(body_of(told(action="waitlist.lapsed", staggered=True)))
    assert event["timestamp"] == "2026-03-29"
    assert (event["data"]["leafHash"], event["data"]["reasons"]) == (None, [])


def test_every_action_on_record_is_told_or_there_is_a_reason_why_not() -> None:
    sources = [*(ROOT / "alembic" / "sql").glob("*.sql")]
    for package in ("partners", "auth", "gateway"):
        sources += [path for path in (ROOT / package).rglob("*.py") if "webhooks" not in path.parts]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    recorded = {action for line in lines if "log." not in line for action in ACTION.findall(line)}
    recorded |= {f"waitlist.{end}" for end in ("withdrawn", "lapsed")}
    known = EVENTS.keys() | UNTOLD.keys()
    nouns = {action.partition(".")[0] for action in known}
    assert {action for action in recorded if action.partition(".")[0] in nouns} <= known
    assert {event.about for event in EVENTS.values()} - {None} == KINDS.keys()
    assert not EVENTS.keys() & UNTOLD.keys()


def test_the_guide_lists_every_event_every_attempt_and_what_is_not_told() -> None:
    guide = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    for table in (catalogue(), attempts(), untold()):
        assert table in guide


def test_the_guide_s_few_lines_verify_what_is_signed_and_nothing_else() -> None:
    guide = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", guide, re.S)
    names: dict[str, Any] = {}
    exec(code, names)
    verify, body = names["verify"], b'{"type":"perk.claimed"}'
    shared, other = new_secret(SecretKind.HMAC), new_secret(SecretKind.HMAC)
    at = int(datetime.now(UTC).timestamp())
    headers = headers_of([other, shared, new_secret(SecretKind.ED25519)], "evt_1", at, body)
    assert verify(shared.shown, headers, body)
    assert not verify(shared.shown, headers, body + b" ")
    assert not verify(new_secret(SecretKind.HMAC).shown, headers, body)
    assert not verify(shared.shown, headers_of([shared], "evt_1", at - 301, body), body)
