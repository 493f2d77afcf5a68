"""The walk's browser: cookies, forms and redirects from the standard library, as far as the pages need them."""

import re
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlencode, urljoin, urlsplit

from gateway.demo.calls import SECONDS_MAX
from partners.errors import Unavailable

REDIRECTS_MAX = 10
FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.S)
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
HEADING = re.compile(r"<h1>(.*?)</h1>", re.S)


class Visitor:
    """Somebody with a browser at one service."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._cookies: dict[str, str] = {}
        self.address, self.page = base_url, ""

    @property
    def heading(self) -> str:
        """What the page is about, in its own words."""
        found = HEADING.search(self.page)
        return found[1] if found else ""

    def go(self, address: str, form: dict[str, str] | None = None) -> str:
        """Where it leads: to a page of the service, or to an address elsewhere, which is not visited."""
        self.address = address
        for _ in range(REDIRECTS_MAX):
            if not self.address.startswith(self._base_url + "/"):
                break
            location = self._load(form)
            if location is None:
                break
            self.address, form = urljoin(self.address, location), None
        return self.address

    def press(self, button: str, **values: str) -> str:
        """Sends the form with the button of this value, which leads on."""
        for action, content in FORM.findall(self.page):
            if named := re.search(rf'<button[^>]* name="([^"]+)" value="{re.escape(button)}"', content):
                return self.go(self._base_url + action, dict(HIDDEN.findall(content)) | {named[1]: button} | values)
        raise KeyError(button)

    def _load(self, form: dict[str, str] | None) -> str | None:
        parts = urlsplit(self.address)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.netloc, timeout=SECONDS_MAX)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if form is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self._base_url}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        body = None if form is None else urlencode(form)
        try:
            connection.request("GET" if form is None else "POST", path, body, headers)
            response = connection.getresponse()
            self.page = response.read().decode()
        except (OSError, HTTPException, ValueError) as fault:
            raise Unavailable(f"{self._base_url} does not answer as it should: {fault}") from fault
        finally:
            connection.close()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response.headers["Location"]
