"""What counts as a URL, URLs without their secrets, and what share links stand for."""

from __future__ import annotations

import base64
import os
import re
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode, urlsplit, urlunsplit


def redacted(url: str) -> str:
    """The URL without user, password, query and fragment, fit to be shown and stored; never raises."""
    if _PLAIN.fullmatch(url):
        return url
    start, mark, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2]
    path, *within = re.split(_CHAINED, path)
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(:\d*)?", host):
        return f"{start}{mark}..."  # perhaps the first half of a password with a slash in it
    return "::".join([f"{start}{mark}{host}{slash}{path}", *map(redacted, within)])


_REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)
_LOCAL = re.compile(r"file:(//(localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9.-]+(:\d*)?(/[^?#@:]*)?")
"""A URL in which nothing can be secret, as most are."""
_CHAINED = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
"""Before a URL within a URL."""


def direct_url(url: str) -> str:
    """The URL that answers with the file itself, for share links of SharePoint and OneDrive; other URLs unchanged.

    SharePoint: `download=1` is added, which is custom, not documented. Personal OneDrive: the shares API
    (learn.microsoft.com/onedrive/developer/rest-api/api/shares_get); since 2024 it refuses many links with 401.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return url
    if host.endswith(".sharepoint.com") and re.match(r"/:\w:/", parts.path):
        query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "download"]
        return urlunsplit(parts._replace(query=urlencode([*query, ("download", "1")])))
    if host == "1drv.ms" or (host == "onedrive.live.com" and not parts.path.startswith("/download")):
        token = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
        return f"https://api.onedrive.com/v1.0/shares/u!{token}/root/content"
    return url


def is_remote(path: str) -> bool:
    """Whether an input is a URL such as `https://host/file` or `s3://bucket/key`; no path, and none of `file://`."""
    return _REMOTE.match(path) is not None


def scheme_of(url: str) -> str:
    """What stands before `://`, in lower case."""
    return url.partition("://")[0].lower()


def is_chain(url: str) -> bool:
    """Whether a second URL stands within, as in `zip://a.jpg::s3://bucket/b.zip`; two colons in a key are none."""
    rest = url.partition("://")[2]
    return "::" in rest and "://" in rest


def local_path(name: str) -> str:
    """The path that a `file://` URL stands for, as `Path.as_uri` writes it; any other name as it is.

    A URL of another host than `localhost` is no file of this machine: it stays as it is, and is found nowhere.
    """
    found = _LOCAL.match(name)
    return os.fsdecode(unquote_to_bytes(os.fsencode(name[found.end() :]))) if found else name


def display_name(url: str) -> str:
    """The URL as a name in the output: without user, password, fragment, and the parameters that sign or unlock it.

    Other parameters stay: they may be all that tells two pictures apart. A URL in them is treated likewise.
    """
    if _PLAIN.fullmatch(url):
        return url
    plain = redacted(url)
    try:
        query = urlsplit(url).query
    except ValueError:
        return plain
    parts = re.findall("([?&]?)([^?&]+)", query)  # a ? is of a URL within
    kept = [(mark, part) for mark, part in parts if not _SECRET.fullmatch(part.partition("=")[0])]
    query = "".join(mark + (redacted(part) if "://" in part else part) for mark, part in kept)
    return f"{plain}?{query[bool(kept[0][0]) :]}" if kept else plain


def shown(path: str) -> str:
    """A path as it is, and a URL as `display_name` has it."""
    return display_name(path) if is_remote(path) else path


def without_secrets(text: str) -> str:
    """A text with every URL in it as `display_name` shows it; quotes and stops behind a URL are none of it."""
    return re.sub(_URL_IN_TEXT, lambda found: display_name(found[0]), text)


_URL_IN_TEXT = re.compile(r"""(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://\S+?(?=["'`)\],;:.]{0,3}(?:\s|$))""")
_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms)-.*|.*(signature|token|secret|password|passwd|credential|api_?key|access_?key).*"
    r"|awsaccesskeyid|googleaccessid|expires|policy|key-pair-id|auth|authorization|key|pwd|code|hmac"
    r"|sig|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv",  # the last two lines: CloudFront, Azure
    re.IGNORECASE,
)
