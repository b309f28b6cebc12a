"""URLs that a stranger wrote, or a stranger's server redirects to: what is asked for, and what is told to whom."""

from __future__ import annotations

import json

import fsspec
import pytest

from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError, FetchError, InputError
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.read import read_inputs
from motivnet_cli.remote import addresses, http, retries
from motivnet_cli.remote.fetch import fetch
from motivnet_cli.remote.files import local_copy, open_remote, read_bytes
from motivnet_cli.remote.ranges import ranges_or_copy
from motivnet_cli.remote.retries import PrivateAddressError, RefusedError
from motivnet_cli.remote.urls import without_secrets
from tests.pictures import SAMPLE_DATA, cut_short
from tests.runs import motivnet
from tests.server import Answer, FileServer

CONTENT = b"content " * 1000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(retries, "BACKOFF_SECONDS", 0.001)


@pytest.fixture
def names(monkeypatch):
    """What names are looked up as, for the rule alone: `localhost` counts as a public server."""
    known = {"localhost": "93.184.216.34", "127.0.0.1": "127.0.0.1"}
    monkeypatch.setattr(addresses, "addresses_of", lambda host: (known[host],))
    return known


def public(url):
    """The same server by a name that counts as public."""
    return url.replace("127.0.0.1", "localhost")


def moved(server, url, *, at="/moved", **answer):
    return server.on(at, Answer(status=302, headers={"Location": url}, **answer))


def refusal(read, *arguments, **options):
    with pytest.raises((InputError, FetchError)) as caught:
        read(*arguments, **options)
    return caught.value


# ---- schemes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["list", "nul", "manifest"])
def test_schemes_of_a_list_that_somebody_else_wrote(way, tmp_path):
    """Those of the web and of object stores; any other is a row that says why, and is not asked for."""
    usual = ["http://h/a.jpg", "HTTPS://h/a.jpg", "s3://b/a.jpg", "gs://b/a.jpg", "hf://o/r/a.jpg"]
    others = ["ftp://h/a.jpg", "memory://a.jpg", "local:///etc/passwd", "github://o:r@/a.jpg"]
    others += [
        "abfs://c/a.mp4?part=2",
        "reference://x",
        "simplecache://x",
        "zip://a.jpg::file:///b.zip",
        "s3://b/a.jpg::file:///etc/passwd",
    ]
    options = {
        "list": {"files_from": (str(tmp_path / "list"),)},
        "nul": {"files0_from": (str(tmp_path / "list"),)},
        "manifest": {"manifests": (str(tmp_path / "m.csv"),)},
    }[way]
    end = "\0" if way == "nul" else "\n"
    (tmp_path / "list").write_text(end.join([*usual, *others]) + end)
    (tmp_path / "m.csv").write_text("\n".join(["path", *usual, *others]) + "\n")
    found = list(Listing(InputConfig(**options)))
    refused = [item.problem.error_type if item.problem else None for item in found]

    assert refused[: len(usual)] == [None] * len(usual)
    assert set(refused[len(usual) :]) == {"refused_url"}
    assert "--allow-scheme ftp" in found[len(usual)].problem.message
    assert {item.input: item.kind for item in found}["abfs://c/a.mp4?part=2"] == "video"


def test_schemes_that_the_user_names(tmp_path):
    """As an argument any scheme is read, in lists then, too; --allow-scheme adds one; a chain stays refused."""
    (tmp_path / "list").write_text("memory://b/a.jpg\nzip://a.jpg::memory://b.zip\n")
    lists = {"files_from": (str(tmp_path / "list"),)}

    def problems(**inputs):
        return [item.problem and item.problem.error_type for item in Listing(InputConfig(**lists, **inputs))]

    assert problems() == ["refused_url"] * 2
    assert problems(allow_schemes=("Memory://", "zip")) == [None, "refused_url"]
    assert problems(paths=("memory://b/x.jpg",)) == [None, None, "refused_url"]
    with pytest.raises(ConfigError, match="a scheme is what stands before"):
        InputConfig(**lists, allow_schemes=("a b",))


def test_a_row_of_another_scheme_fails_alone(tmp_path):
    fsspec.filesystem("memory").pipe("/b/a.png", (SAMPLE_DATA / "astronaut.png").read_bytes())
    (tmp_path / "m.csv").write_text(f"path\nmemory://b/a.png\n{SAMPLE_DATA / 'astronaut.png'}\n")
    arguments = ("annotate", "--manifest", tmp_path / "m.csv", "--model", "expression-net", "--out")
    motivnet(*arguments, tmp_path / "p.parquet", code=3)
    motivnet(*arguments, tmp_path / "q.parquet", "--allow-scheme", "memory")
    fsspec.filesystem("memory").store.clear()

    assert read_inputs(tmp_path / "p.parquet")["error_type"].to_list() == ["refused_url", None]
    assert read_inputs(tmp_path / "q.parquet")["error_type"].to_list() == [None, None]


# ---- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://a/x", "169.254.169.254"),
        ("http://a/x", "fe80::1%eth0"),
        ("http://a/x", "::ffff:169.254.169.254"),
        ("http://a/x", "64:ff9b::a9fe:a9fe"),
        ("http://169.254.169.254/latest/meta-data/", None),
        ("http://[fe80::1]/x", None),
        ("http://0xa9fea9fe/x", None),
        ("http://2852039166/x", None),
    ],
)
@pytest.mark.parametrize("start", [None, "http://127.0.0.1/x"])
def test_link_local_addresses_are_not_asked(url, found, start, monkeypatch):
    """Clouds give the machine's credentials there: neither a URL nor a redirect leads to it, however it is written."""
    if found:
        monkeypatch.setattr(addresses, "addresses_of", lambda host: (found,))
    with pytest.raises(PrivateAddressError, match="link-local"):
        addresses.check(url, start=start, allow_private=False, by_proxy=False)
    addresses.check(url, start=start, allow_private=True, by_proxy=False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
    ],
)
def test_a_redirect_into_a_private_network(address, names):
    """From a public server to any address that is not: refused, unless the first one was private itself."""
    names |= {"target": address, "first": "93.184.216.34", "inside": "10.0.0.9"}
    with pytest.raises(PrivateAddressError, match="target, an address of this machine or of a private network"):
        addresses.check("http://target/x", start="http://first/", allow_private=False, by_proxy=False)
    addresses.check("http://target/x", start="http://first/", allow_private=True, by_proxy=False)
    addresses.check("http://target/x", start="http://inside/", allow_private=False, by_proxy=False)
    addresses.check("http://target/x", start=None, allow_private=False, by_proxy=False)
    names["target"] = "8.8.8.8"
    addresses.check("http://target/x", start="http://first/", allow_private=False, by_proxy=False)


def test_a_name_with_addresses_of_both_kinds(monkeypatch):
    """As the first server it counts as public, and as the one that is redirected to as private; so does an unknown."""
    known = {"both": ("8.8.8.8", "10.0.0.9"), "inside": ("10.0.0.9", "10.0.0.8"), "public": ("8.8.8.8",), "gone": ()}
    monkeypatch.setattr(addresses, "addresses_of", known.__getitem__)
    for start, target in (("both", "inside"), ("public", "both"), ("gone", "inside")):
        with pytest.raises(PrivateAddressError):
            addresses.check(f"http://{target}/", start=f"http://{start}/", allow_private=False, by_proxy=False)
    for start, target in (("inside", "both"), ("both", "public"), ("public", "gone")):
        addresses.check(f"http://{target}/", start=f"http://{start}/", allow_private=False, by_proxy=False)


def test_names_that_a_proxy_looks_up(monkeypatch):
    """Nothing is looked up where a proxy connects; an address that is spelt out is known all the same."""
    monkeypatch.setattr(addresses, "addresses_of", lambda host: pytest.fail("looked up"))
    addresses.check("http://a/x", start="http://b/", allow_private=False, by_proxy=True)
    for url in ("http://127.0.0.1/x", "http://[::1]/x"):
        with pytest.raises(PrivateAddressError):
            addresses.check(url, start="http://8.8.8.8/", allow_private=False, by_proxy=True)


def test_no_redirect_from_https_to_http(names):
    for allow_private in (False, True):
        with pytest.raises(RefusedError, match="from https to http"):
            addresses.check(
                "http://localhost/", start="https://localhost/", allow_private=allow_private, by_proxy=False
            )
    addresses.check("https://localhost/", start="http://localhost/", allow_private=False, by_proxy=False)


def read_archive(url, **options):
    archive = Archive(url, **options)
    list(archive)
    if archive.report.problem:
        raise InputError(archive.report.problem.error_type, archive.report.problem.message)


def read_copy(url, **options):
    with local_copy(url, **options):
        pass


def read_parts(url, **options):
    with ranges_or_copy(url, **options):
        pass


@pytest.mark.parametrize(
    "read", [lambda url, **how: read_bytes(url, max_bytes=1 << 20, **how), read_archive, read_copy, read_parts]
)
def test_where_redirects_are_refused(read, names):
    """For pictures, archives and videos, before the second server is asked; with the option it is."""
    archive = (SAMPLE_DATA / "astronaut.png").read_bytes()
    with FileServer(Answer(archive)) as server:
        url = public(moved(server, server.url))
        error = refusal(read, url)
        asked = [request.path for request in server.requests]
        same = public(moved(server, public(server.url), at="/same"))
        if read is not read_archive:
            read(same)
            read(url, allow_private=True)
            read(moved(server, server.url))  # from a private server into its own network

    assert error.error_type == "refused_url"
    assert "--allow-private-addresses" in str(error)
    assert "127.0.0.1, an address of this machine" in str(error)
    assert asked == ["/moved"]


def test_a_chain_of_redirects_is_checked_at_each_step(names):
    with FileServer(Answer(CONTENT)) as server:
        one = moved(server, server.url, at="/one")
        two = moved(server, public(one), at="/two")
        assert refusal(read_bytes, public(two), max_bytes=1 << 20).error_type == "refused_url"
        assert read_bytes(two, max_bytes=1 << 20) == CONTENT  # begun at a private address


def test_weights_do_not_come_by_such_a_redirect(names, tmp_path):
    with FileServer(Answer(CONTENT)) as server:
        error = refusal(fetch, public(moved(server, server.url)), tmp_path / "w.pth")

    assert "a private network" in str(error)
    assert "--from-file" in str(error)
    assert not list(tmp_path.glob("w.pth"))


@pytest.mark.parametrize("piece", [b"<title>", b"<", b"<title", b"<script", b"<title>x</", b"<style></script>"])
def test_a_page_that_never_ends_what_it_begins(piece, tmp_path):
    """Such a page was searched for seconds, by the square of its length."""
    page = b"<!DOCTYPE html>" + piece * ((1 << 16) // len(piece))
    with FileServer(Answer(page, content_type="text/html")) as server:
        assert "answered with a page from 127.0.0.1" in str(refusal(fetch, server.url, tmp_path / "w.pth"))


def test_the_command_allows_them(names, tmp_path):
    with FileServer(Answer((SAMPLE_DATA / "astronaut.png").read_bytes())) as server:
        arguments = ("annotate", public(moved(server, server.url)), "--model", "expression-net", "--out")
        motivnet(*arguments, tmp_path / "p.parquet", code=3)
        motivnet(*arguments, tmp_path / "q.parquet", "--allow-private-addresses")

    assert read_inputs(tmp_path / "p.parquet")["error_type"].to_list() == ["refused_url"]
    assert read_inputs(tmp_path / "q.parquet")["status"].to_list() == ["ok"]


def test_the_page_that_comes_with_a_redirect_is_not_read():
    """It need not end: here it stops in the middle, and the second server is asked all the same."""
    with FileServer(Answer(CONTENT)) as server:
        url = moved(server, server.url, content=b"x" * 100_000, stall_after=70_000)
        assert read_bytes(url, max_bytes=1 << 20) == CONTENT


def test_what_opens_one_host_is_not_sent_to_another(names):
    """User and password, and cookies, go to the host that they are for."""
    names["127.0.0.1"] = "8.8.8.8"
    with FileServer(Answer(CONTENT)) as server:
        url = moved(server, server.url)
        server.on("/moved", Answer(status=302, headers={"Location": server.url, "Set-Cookie": "a=b"}))
        read_bytes(public(url).replace("http://", "http://user:sesame@"), max_bytes=1 << 20)
    first, second = server.requests

    assert first.headers["Authorization"].startswith("Basic ")
    assert second.headers["Authorization"] is None
    assert second.headers["Cookie"] is None


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://h/x", "gopher://h/x", "javascript:alert(1)"])
def test_a_redirect_to_no_web_server(location):
    with FileServer() as server:
        error = refusal(read_bytes, moved(server, location), max_bytes=1 << 20)

    assert error.error_type in ("not_found", "refused_url")
    assert "passwd" not in str(error)


# ---- secrets ----------------------------------------------------------------------------------------------


def with_secrets(url):
    return url.replace("http://", "http://user:sesame@") + "?size=2&X-Amz-Signature=sesame&token=sesame"


def test_no_secret_of_a_url_is_said_or_written(tmp_path, monkeypatch, capfd):
    """However a URL is given, whatever becomes of it, and whichever command looks at the output."""
    monkeypatch.chdir(tmp_path)
    picture = (SAMPLE_DATA / "astronaut.png").read_bytes()
    cut_short(SAMPLE_DATA / "astronaut.png", tmp_path / "cut.png")
    with FileServer() as server:
        urls = [server.on("/a.png", Answer(picture)), server.on("/gone.png", Answer(status=404))]
        urls += [server.on("/cut.png", Answer((tmp_path / "cut.png").read_bytes())), server.on("/x.tar", Answer(b"x"))]
        urls += [server.on("/broken.mp4", Answer(b"broken")), "http://127.0.0.1:1/refused.png"]
        urls = [with_secrets(url) for url in urls]
        (tmp_path / "list.txt").write_text(urls[0] + "\n" + urls[1])
        (tmp_path / "m.csv").write_text("path\n" + "\n".join([*urls, with_secrets("http://h/") + "::s3://k:sesame@b"]))
        options = ("--model", "expression-net", "--max-failures", "100%", "--json")
        runs = [
            motivnet("annotate", *urls, "--out", "p.parquet", *options),
            motivnet("annotate", "--manifest", "m.csv", "--out", "q.parquet", *options),
            motivnet("annotate", "--files-from", "list.txt", "--out", "f", *options),
            motivnet("annotate", *urls, "--out", "p.parquet", "--dry-run", "--json"),
            motivnet("annotate", urls[0], "--out", "p.parquet", *options[:2], code=2),  # another run's output
            *(motivnet("status", out) for out in ("p.parquet", "f")),
            motivnet("export", "predictions", "f", "--to", "label-studio", "--out", "ls"),
            motivnet("export", "report", "p.parquet", "--out", "r.html"),
            motivnet("annotate", "--manifest", urls[0] + ".csv", "--out", "x.parquet", code=2),
            motivnet("annotate", "--files-from", urls[0], "--out", "x.parquet", code=2),
            motivnet("annotate", f"{urls[0]}{{0..99999999}}", "--out", "x.parquet", code=2),
            motivnet("annotate", "m.csv", "--weights", urls[0], "--out", "x.parquet", code=2),
            motivnet("annotate", "m.csv", "--out", with_secrets("ftp://h/x.csv"), code=2),
            motivnet("status", with_secrets("http://127.0.0.1:1/x.parquet"), code=2),
        ]
    said = "".join(run.stdout + run.stderr for run in runs) + "".join(capfd.readouterr())
    given = {"list.txt", "m.csv"}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in given]
    plans = [path for path in written if path.name == "plan.pq"]

    assert "sesame" not in said
    assert not [path for path in written if b"sesame" in path.read_bytes() and path not in plans]
    assert plans
    assert all(path.stat().st_mode & 0o077 == 0 for path in plans)
    assert json.loads(runs[0].stdout)["by_status"] == {"ok": 1, "failed": 5}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'https://u:p@h/x?token=1&size=2': gone", "'https://h/x?size=2': gone"),
        ("s3://k:s@b/x, gs://k:s@b/y", "s3://b/x, gs://b/y"),
        ("see https://h/x.", "see https://h/x."),
        ("1http://u:p@h/x", "1http://h/x"),
        (f"{'a' * 100_000} https://u:p@h/x", f"{'a' * 100_000} https://h/x"),
        ("no URL: a@b, c://", "no URL: a@b, c://"),
        ("at 'ray://127.0.0.1:1' (ray://h:1): start", "at 'ray://127.0.0.1:1' (ray://h:1): start"),
        ('"https://u:p@h:99", https://u:p\'q@h/a.jpg.', '"https://h:99", https://h/a.jpg.'),
        (f"https://u:p@h/{chr(39) * 100_000}", f"https://h/{chr(39) * 100_000}"),
        ("zip://d/a.jpg::https://u:p@h/b.zip?sig=1", "zip://d/a.jpg::https://h/b.zip"),
        ("https://h/?of=https://u:p@h2/x?sig=1&id=2", "https://h/?of=https://h2/x&id=2"),
        (f"https://h/{'?x://' * 5_000}h", f"https://h/{'?x://' * 5_000}h"),
        ("['https://h?v=1','https://u:p@h2?sig=2']", "['https://h?v=1','https://h2']"),
    ],
)
def test_urls_within_a_text(text, shown):
    assert without_secrets(text) == shown


def test_open_remote_refuses_by_default(names):
    """Whoever calls it from Python has to allow it, too."""
    with FileServer(Answer(CONTENT)) as server:
        url = public(moved(server, server.url))
        assert refusal(open_remote, url).error_type == "refused_url"
        with open_remote(url, allow_private=True) as file:
            assert file.read() == CONTENT
        with http.new_session() as session, http.get(session, url, allow_private=True) as response:
            assert response.url == server.url
