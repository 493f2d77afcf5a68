"""The walk with a browser: a member lets a partner's app in and puts it out again."""

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qsl, urlencode, urlsplit

from gateway.demo.club import PARTNER
from gateway.demo.people import MEMBERS, REDIRECT
from gateway.demo.visitor import Visitor
from gateway.demo.walk import Step, Voice, Walk

APP, MEMBER = "Silverline app", "member-0012"
VIEWER = "viewer { kind scopes }"


def a_member_signs_in(walk: Walk) -> None:
    """A partner's app sends a member's browser here; the member signs in and reads what is asked"""
    verifier = secrets.token_urlsafe(48)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": walk.handout.apps[APP],
        "redirect_uri": REDIRECT,
        "scope": "member.tier:read",
        "state": secrets.token_urlsafe(8),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    visitor = Visitor(walk.handout.base_url)
    walk.found |= {"visitor": visitor, "verifier": verifier, "state": asked["state"]}
    visitor.go(f"{walk.handout.base_url}/oauth/authorize?{urlencode(asked)}")
    walk.say(f"    a browser: /oauth/authorize\n    → {visitor.heading}")
    visitor.press(MEMBERS[MEMBER][0])
    walk.say(f"    {MEMBERS[MEMBER][1]}: signs in\n    → {visitor.heading}")
    walk.expect("the question, with each right in words", "See your tier." in visitor.page)


def a_member_allows_an_app(walk: Walk) -> None:
    """The member allows it for 90 days; the app gets a token that speaks for this member alone"""
    visitor: Visitor = walk.found["visitor"]
    back = visitor.press("allow", lasts="quarter")
    told = dict(parse_qsl(urlsplit(back).query))
    walk.say(f"    {MEMBERS[MEMBER][1]}: allows it\n    → {REDIRECT}?code=…&state=…&iss={told.get('iss')}")
    own = back.startswith(REDIRECT) and told["state"] == walk.found["state"]
    walk.expect("back to the app with a code", own and told["iss"] == walk.handout.base_url)
    form = {"client_id": walk.handout.apps[APP], "redirect_uri": REDIRECT, "code_verifier": walk.found["verifier"]}
    reply = walk.api.exchange(form | {"grant_type": "authorization_code", "code": told["code"]})
    walk.show("the app: POST /oauth/token grant_type=authorization_code", reply)
    walk.voices["the app"] = Voice("the app", reply.body["access_token"])
    walk.expect("a token for what was allowed", reply.body["scope"] == "member.tier:read")
    again = walk.api.exchange(form | {"grant_type": "authorization_code", "code": told["code"]})
    walk.show("the app: the same code once more", again)
    walk.expect("a code works once", again.body.get("error") == "invalid_grant")
    reply = walk.ask("the app", VIEWER)
    walk.expect("and who uses one twice loses the token", reply.codes == ["UNAUTHENTICATED"])


def a_member_withdraws(walk: Walk) -> None:
    """The member sees who may know what, and withdraws"""
    visitor: Visitor = walk.found["visitor"]
    visitor.go(f"{walk.handout.base_url}/consents")
    walk.say(f"    {MEMBERS[MEMBER][1]}: /consents\n    → {visitor.heading}")
    walk.expect("the partner is listed", f'href="/consents/{PARTNER}/withdraw"' in visitor.page)
    visitor.go(f"{walk.handout.base_url}/consents/{PARTNER}/withdraw")
    walk.say(f"    → {visitor.heading}")
    visitor.press("withdraw")
    walk.expect("and now it is not", f'href="/consents/{PARTNER}/withdraw"' not in visitor.page)


BROWSING: tuple[Step, ...] = (a_member_signs_in, a_member_allows_an_app, a_member_withdraws)
