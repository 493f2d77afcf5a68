"""What the authorization server keeps of a member: all of it goes when the member is erased."""

from collections.abc import Mapping

from partners.personal_data import DELETE, Holding

OF_APPROVAL = "t.approval_id IN (SELECT a.id FROM approval a WHERE a.member_id = :member)"

# In an order in which nothing is deleted before what points to it.
HOLDINGS: tuple[Holding, ...] = (
    Holding("refresh_token", OF_APPROVAL, ("hash", "answer"), DELETE),
    Holding("authorization_request", OF_APPROVAL, ("request_hash", "code_hash", "code_challenge"), DELETE),
    Holding("device_authorization", OF_APPROVAL, ("device_hash", "user_code_hash"), DELETE),
    Holding("approval", erasing=DELETE),
    Holding("person", erasing=DELETE),
    Holding("browser_session", hidden=("hash",), erasing=DELETE),
)
NOTHING_HELD: Mapping[str, str] = {
    "client": "of a machine",
    "client_secret": "of a machine",
    "signing_key": "of the operator",
    "revocation": "names of tokens, for a day",
}
"""Tables that hold nothing of a member, and what they hold."""
