"""What a partner and staff can prove to others: signed messages of what happened, proofs, files and statements."""

import hashlib
import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from gateway.demo.club import PARTNER
from gateway.demo.walk import Walk, wrapped
from partners.notes import NoteInvalid, Verifier
from partners.tlog_proofs import parse

WAIT_SECONDS_MAX = 10.0
HERE = "127.0.0.1"
MADE = "endpoint { id url state } secret userErrors { code message } }"
EXPORT = "export { id state rows total downloadUrl } userErrors { code message } }"


class Receiver:
    """A partner's own small server, which keeps what it is told and answers 204."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                told.append(({name.lower(): text for name, text in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: what came is shown by the walk."""

        self._server = ThreadingHTTPServer((HERE, 0), Handler)
        self.url = f"http://{HERE}:{self._server.server_port}/perks"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def find(self, type: str, about: str, id: str) -> tuple[dict[str, str], bytes] | None:
        """The message of this event of this thing, once it is here."""
        for headers, body in list(self.told):
            said = json.loads(body)
            if (said["type"], said["data"].get(about)) == (type, id):
                return headers, body
        return None


def until(found: Callable[[], Any]) -> Any:
    """What is found, as soon as it is; None after ten seconds."""
    ends = time.monotonic() + WAIT_SECONDS_MAX
    while (here := found()) is None and time.monotonic() < ends:
        time.sleep(0.05)
    return here


def a_partner_wants_to_be_told(walk: Walk) -> None:
    """The partner names an address of its own that is to hear of everything, and gets the secret to verify it with"""
    receiver = walk.found["receiver"] = Receiver()
    fields = 'createWebhookEndpoint(input: {url: $url, description: "the walk"}) { '
    reply = walk.do(PARTNER, fields + MADE, url=receiver.url)
    walk.found["endpoint"], walk.found["webhook_secret"] = reply.value["endpoint"]["id"], reply.value["secret"]
    walk.expect("enabled at once", reply.value["endpoint"]["state"] == "ENABLED")
    reply = walk.do(PARTNER, fields + MADE, url="https://169.254.169.254/latest/meta-data")
    walk.expect("an address inside somebody's network: refused", reply.refusals == ["URL_REFUSED"])


def a_partner_is_told(walk: Walk) -> None:
    """The partner hears of the redemption by webhook, and verifies who says so (Standard Webhooks)"""
    redemption = walk.found["redemption"]
    receiver: Receiver = walk.found["receiver"]
    message = until(lambda: receiver.find("hold.confirmed", "redemption", redemption["id"]))
    walk.expect("it arrives", message is not None)
    headers, body = message
    walk.say(wrapped(body.decode(), "    → ", "      "))
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    secret = b64decode(walk.found["webhook_secret"].removeprefix("whsec_"))
    expected = "v1," + b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    walk.expect("signed with the secret", expected in headers["webhook-signature"].split())
    walk.expect("under the leaf that it was answered", json.loads(body)["data"]["leafHash"] == redemption["leafHash"])
    fields = "deleteWebhookEndpoint(input: {endpoint: $id}) { userErrors { code } }"
    walk.expect("no more of it", walk.do(PARTNER, fields, id=walk.found["endpoint"]).refusals == [])


def a_partner_proves_a_redemption(walk: Walk) -> None:
    """The partner asks for the proof of its redemption and checks it without the service"""
    redemption = walk.found["redemption"]
    fields = "auditProof(redemptionId: $id) { index treeSize leafHash leaf proof }"
    proof = walk.ask(PARTNER, fields, id=redemption["id"]).value
    keys = [Verifier.parse(key) for key in walk.ask("nobody", "auditCheckpoint { size keys }").value["keys"]]
    checkpoint = parse(proof["proof"]).verify(proof["leaf"].encode(), keys)
    walk.expect("in the signed log", checkpoint.size == proof["treeSize"] and proof["index"] < proof["treeSize"])
    walk.expect("as what it was answered", proof["leafHash"] == redemption["leafHash"])
    try:
        parse(proof["proof"]).verify(proof["leaf"].replace('"DONE"', '"REFUSED"').encode(), keys)
    except NoteInvalid as fault:
        walk.say(wrapped(str(fault), "    → ", "      "))
        walk.expect("one word of the leaf changed: no proof", True)
    else:
        walk.expect("one word of the leaf changed: no proof", False)


def a_partner_takes_a_file(walk: Walk) -> None:
    """The partner has its redemptions made into a file, and reads the month's statement"""
    fields = "requestExport(input: {kind: REDEMPTIONS, format: CSV}) { "
    export = walk.do(PARTNER, fields + EXPORT).value["export"]

    def done() -> Any:
        """The export, once it is made."""
        query = f'query {{ export(id: "{export["id"]}") {{ state rows total downloadUrl }} }}'
        found = walk.api.graphql(query, walk.voices[PARTNER].token).value
        return found if found["state"] == "DONE" else None

    made = until(done)
    walk.expect("made in the background", made is not None and made["rows"] == made["total"])
    file = walk.api.get(made["downloadUrl"], walk.voices[PARTNER].token).decode()
    head, *rows = file.splitlines()
    walk.say(wrapped(head, "    → ", "      "))
    walk.expect("a line for each", len(rows) == made["rows"])
    walk.expect("its own redemption among them", walk.found["redemption"]["id"] in file)
    month = walk.found["redemption"]["confirmedAt"][:7]
    fields = "statement(month: $month) { timeZone final totals { currencyCode redeemed { count units } } logSize }"
    statement = walk.ask(PARTNER, fields, month=month).value
    walk.expect("the month's statement counts it", sum(one["redeemed"]["count"] for one in statement["totals"]) >= 1)
