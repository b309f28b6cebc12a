"""Buckets of any size: order, pages that are asked for at once, and memory; `tests/test_s3.py` has a real server."""

from __future__ import annotations

import gc
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motivnet_cli import external_sort
from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.remote import storage
from motivnet_cli.remote.storage import RemoteEntry, list_remote
from tests.fake_s3 import TIME, FakeBucket

TIME_NS = int(TIME.timestamp()) * 10**9


@pytest.fixture
def use(monkeypatch):
    """Put a store in the place of S3."""

    def put(store):
        monkeypatch.setattr(storage, "file_system", store.opened)
        return store

    return put


def in_walk_order(keys):
    """Folder by folder; what a key that ends in a slash stands for is a folder, and no file."""
    return sorted(
        {key for key in keys if not key.endswith("/")}, key=lambda key: [part.encode() for part in key.split("/")]
    )


KEYS = st.lists(st.text("a/.\x01é\ue000😀", min_size=1, max_size=7), max_size=40)
PARAMETERS = (KEYS, st.integers(1, 9), st.integers(1, 4), st.integers(1, 9), st.booleans())


def listed(bucket, url, *, parts, run, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "file_system", bucket.opened)
        patch.setattr(storage, "_PARTS", parts)
        patch.setattr(external_sort, "RUN_RECORDS", run)
        return list(list_remote(url, **options))


@given(*PARAMETERS)
def test_any_keys_come_in_the_order_of_a_walk(keys, page, parts, run, starts):
    """However many pages and parts they come in, and from stores that begin each list at its first key."""
    bucket = FakeBucket(keys, page=page)
    if not starts:
        ask = bucket.call_s3
        bucket.call_s3 = lambda method, StartAfter="", **request: ask(method, **request)
    everything = listed(bucket, "s3://b/", parts=parts, run=run)
    below = listed(bucket, "s3://b/a/", parts=parts, run=run)
    begun = listed(bucket, "s3://b/", parts=parts, run=run, begin="a")
    level = listed(bucket, "s3://b/", parts=parts, run=run, recursive=False)

    assert everything == [RemoteEntry(key, (len(key), TIME_NS)) for key in in_walk_order(keys)]
    assert [each.name for each in below] == in_walk_order(
        [key[2:] for key in keys if key.startswith("a/") and len(key) > 2]
    )
    assert [each.name for each in begun] == in_walk_order([key for key in keys if key.startswith("a")])
    assert [each.name for each in level] == sorted(
        {head + slash for head, slash, _ in (key.partition("/") for key in keys)},
        key=lambda name: name.encode().replace(b"/", b"\0"),
    )


@given(*PARAMETERS)
def test_store_without_an_order(keys, page, parts, run, is_reversed):
    """Nothing is left out in silence."""

    def order(keys):
        return sorted(keys, key=lambda key: key[::-1], reverse=is_reversed)

    try:
        found = listed(FakeBucket(keys, page=page, order=order), "s3://b/", parts=parts, run=run)
    except FetchError as error:
        assert any(why in str(error) for why in ("out of their order", "the same page again"))  # noqa: PT017
    else:
        assert [each.name for each in found] == in_walk_order(keys)


def test_store_without_an_order_is_listed_page_by_page(use):
    """As directory buckets of S3 are."""
    keys = [f"{a}/{b}.jpg" for a in range(9) for b in range(9)]
    bucket = use(FakeBucket(keys, page=10, order=lambda keys: sorted(keys, key=lambda key: key[::-1])))

    assert [each.name for each in list_remote("s3://b/")] == in_walk_order(keys)
    assert bucket.num_requests == 9


def test_folders_of_a_large_folder_are_listed_at_once(use, monkeypatch):
    """And small folders share pages: 40 folders of 30 keys, 100 to a page, are 1,200 keys, so 12 pages at least."""
    store = use(FakeBucket([f"x/{a:02d}/{n:02d}.jpg" for a in range(40) for n in range(30)], page=100, seconds=0.02))
    monkeypatch.setattr(storage, "_PARTS", 10)
    found = list(list_remote("s3://b/"))

    assert len(found) == 1200
    assert 3 < store.most_at_once <= storage._REQUESTS
    assert store.num_requests == 4 + 10 * 2  # two levels and a page of each too many, ten parts of 120 keys


def test_small_folder_costs_one_request(use):
    """However many folders are in it."""
    store = use(FakeBucket([f"{a}/{b}/c.jpg" for a in range(20) for b in range(20)]))

    assert len(list(Listing(["s3://b/"]))) == 400
    assert store.num_requests == 1


def test_memory_of_a_list_is_that_of_its_pages(use, monkeypatch):
    """Of 9,000 entries, 30 to a page."""
    monkeypatch.setattr(external_sort, "RUN_RECORDS", 500)
    store = use(FakeBucket([f"{a:02d}/{n:04d}.jpg" for a in range(30) for n in range(300)], page=30))
    ask, numbers, most = store.call_s3, itertools.count(), 0

    def counted(*arguments, **request):
        nonlocal most
        if next(numbers) % 80 == 70:
            most = max(most, sum(isinstance(each, RemoteEntry) for each in gc.get_objects()))
        return ask(*arguments, **request)

    monkeypatch.setattr(store, "call_s3", counted)
    num_found = sum(1 for _ in list_remote("s3://b/"))

    assert num_found == 9_000
    assert 0 < most <= 30 * 3 * storage._REQUESTS


def test_store_that_fails_midway(use, monkeypatch):
    """No list is taken for whole, and no thread goes on."""
    store = use(FakeBucket([f"{a}/{n}.jpg" for a in range(9) for n in range(9)], page=5))
    ask = store.call_s3

    def failing(*arguments, **request):
        if request["Prefix"] == "6/":
            raise PermissionError("no")
        return ask(*arguments, **request)

    monkeypatch.setattr(store, "call_s3", failing)
    with pytest.raises(ConfigError, match="credentials found here do not open it"):
        list(Listing(["s3://b/"]))
    for thread in threading.enumerate():
        if thread.name.startswith("motivnet-list"):
            thread.join(timeout=60)
            assert not thread.is_alive()


def test_store_that_names_the_folder_itself_as_its_folder(use, monkeypatch):
    """It would be entered for ever."""
    store = use(FakeBucket([]))

    def answer(_method, *, Delimiter, **_):
        rest = {} if Delimiter else {"IsTruncated": True, "NextContinuationToken": "x"}
        return {"CommonPrefixes": [{"Prefix": "a/"}] if Delimiter else []} | rest

    monkeypatch.setattr(store, "call_s3", answer)
    with pytest.raises(FetchError, match="the storage gives no list"):
        list(list_remote("s3://b/"))
