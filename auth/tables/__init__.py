"""Every table of the authorization server: a code and every token hang from an Approval, and one that speaks for
a member at a partner hangs from that member's Consent."""

from auth.tables.approvals import (
    Approval,
    ApprovalState,
    AuthorizationRequest,
    DeviceAuthorization,
    DeviceState,
    RefreshToken,
)
from auth.tables.clients import Client, ClientAuthentication, ClientSecret, ClientState, GrantType
from auth.tables.keys import Denied, Revocation, SigningKey
from auth.tables.people import BrowserSession, Person

__all__ = [
    "Approval",
    "ApprovalState",
    "AuthorizationRequest",
    "BrowserSession",
    "Client",
    "ClientAuthentication",
    "ClientSecret",
    "ClientState",
    "Denied",
    "DeviceAuthorization",
    "DeviceState",
    "GrantType",
    "Person",
    "RefreshToken",
    "Revocation",
    "SigningKey",
]
