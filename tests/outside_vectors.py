"""Addresses by which somebody could try to reach what is inside, and their public neighbours."""

import re

REFUSED = {
    "another scheme": "ftp://hooks.brand.com/",
    "a file": "file:///etc/passwd",
    "gopher": "gopher://hooks.brand.com/_x",
    "no scheme": "hooks.brand.com/x",
    "a relative address": "//hooks.brand.com/x",
    "nothing": "",
    "plain http": "http://hooks.brand.com/",
    "another port": "https://hooks.brand.com:8443/",
    "port nought": "https://hooks.brand.com:0/",
    "a port too many": "https://hooks.brand.com:65536/",
    "a port in words": "https://hooks.brand.com:https/",
    "a negative port": "https://hooks.brand.com:-443/",
    "an empty port": "https://hooks.brand.com:/",
    "a user": "https://user@hooks.brand.com/",
    "user and password": "https://user:word@hooks.brand.com/",
    "an empty user": "https://@hooks.brand.com/",
    "a good name as user": "https://hooks.brand.com@127.0.0.1/",
    "two users": "https://a@b@hooks.brand.com/",
    "a fragment": "https://hooks.brand.com/#x",
    "a fragment before the user": "https://hooks.brand.com#@127.0.0.1/",
    "a backslash": "https://hooks.brand.com\\@127.0.0.1/",
    "a line end": "https://hooks.brand.com/\r\nHost: inner",
    "a line end in the host": "https://hooks.\nbrand.com/",
    "a tabulator": "https://hooks.brand.com/\tx",
    "a zero byte": "https://hooks.brand.com\x00.local/",
    "a space": "https://hooks.brand.com /",
    "a leading space": " https://hooks.brand.com/",
    "a space that no eye sees": "https://hooks\u200b.brand.com/",
    "no host": "https:///x",
    "a host of dots": "https://../x",
    "an empty label": "https://hooks..brand.com/",
    "a dot at the end": "https://hooks.brand.com./",
    "a dot at the start": "https://.brand.com/",
    "one label": "https://brand/",
    "localhost": "https://localhost/",
    "localhost in capitals": "https://LOCALHOST/",
    "below localhost": "https://brand.localhost/",
    "a name of the network": "https://printer.local/",
    "a cloud's inner name": "https://metadata.google.internal/",
    "a router's name": "https://nas.lan/",
    "a home": "https://box.home.arpa/",
    "an onion": "https://hooks.brand.onion/",
    "the loopback": "https://127.0.0.1/",
    "a public IPv4 address": "https://93.184.216.34/",
    "short": "https://127.1/",
    "decimal": "https://2130706433/",
    "hexadecimal": "https://0x7f000001/",
    "octal": "https://0177.0.0.1/",
    "mixed": "https://0x7f.0.0.1/",
    "hexadecimal at the end": "https://brand.0x7f/",
    "a number at the end": "https://hooks.brand.1/",
    "the loopback with a dot": "https://127.0.0.1./",
    "wide digits": "https://\uff11\uff12\uff17.0.0.1/",
    "digits in circles": "https://\u2460\u2461\u2466.0.0.1/",
    "an ideographic full stop": "https://127\u30020\u30020\u30021/",
    "IPv6": "https://[::1]/",
    "mapped IPv4": "https://[::ffff:127.0.0.1]/",
    "a public IPv6 address": "https://[2606:4700::1111]/",
    "a zone": "https://[fe80::1%25eth0]/",
    "half a bracket": "https://[::1/",
    "percent-encoded": "https://%31%32%37.0.0.1/",
    "an underscore": "https://hooks_1.brand.com/",
    "a hyphen at the edge": "https://-hooks.brand.com/",
    "a label of 64": f"https://{'a' * 64}.brand.com/",
    "a name of 254": f"https://{'a.' * 125}comm/",
    "an address of 3,000": f"https://hooks.brand.com/{'x' * 3_000}",
    "a path beyond ASCII": "https://hooks.brand.com/café",
    "a slash that only looks like one": "https://hooks.brand.com\u2215@127.0.0.1/",
    "a sign that becomes a slash": "https://hooks\u2100.brand.com/",
}

INNER = re.findall(
    r"\S+",
    """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 169.254.170.2
    172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:93.184.216.34 ::ffff:0:127.0.0.1 64:ff9b::7f00:1
    64:ff9b::5db8:d822 64:ff9b:1::a00:1 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
    2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:5db8:d822::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
    fd20:ce::254 fe80::1 fe80::1%eth0 fe80::a9fe:a9fe%2 fec0::1 ff02::1 ff0e::1 2606:4700::1111%1
    """,
)

PUBLIC = re.findall(
    r"\S+",
    """
    1.1.1.1 93.184.216.34 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 198.17.255.255 223.255.255.254
    2606:4700::1111 2001:200::1 2001:4860:4860::8888 2a00:1450::1 2003::1
    """,
)
