"""A bucket in memory that gives its keys in pages, as S3's `ListObjectsV2` does."""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from datetime import datetime, timezone

TIME = datetime(2024, 5, 1, tzinfo=timezone.utc)
"""Of every object."""


class FakeBucket:
    """The bucket `b`, in the place of s3fs; it counts what it is asked.

    Args:
        page: Keys in an answer.
        order: Of the keys in a list; S3's own is that of their bytes.
        seconds: Taken by an answer.
    """

    def __init__(self, keys, *, page=1000, order=sorted, seconds=0.0):
        self._keys = order(set(keys))
        self._is_sorted = order is sorted
        self._page = page
        self._seconds = seconds
        self._lock = threading.Lock()
        self._at_once = 0
        self.req_kw = {}
        self.num_requests = self.most_at_once = 0

    def opened(self, url):
        """In the place of `storage.file_system`."""
        return self, url.partition("://")[2].rstrip("/")

    def split_path(self, path):
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, method, *, Bucket, Prefix, Delimiter, StartAfter="", ContinuationToken=""):
        assert (method, Bucket) == ("list_objects_v2", "b")
        with self._lock:
            self.num_requests += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self._seconds)
        names = self._names(Prefix, Delimiter, max(Prefix, StartAfter, ContinuationToken))
        if ContinuationToken:
            names = itertools.dropwhile(lambda name: name != ContinuationToken, names)
            names = itertools.islice(names, 1, None)
        elif StartAfter:
            names = (name for name in names if name > StartAfter)
        *here, rest = [*itertools.islice(names, self._page), next(names, None)]
        folders = [name for name in here if Delimiter and name.endswith("/") and name != Prefix]
        with self._lock:
            self._at_once -= 1
        return {
            "Contents": [
                {"Key": name, "Size": len(name), "LastModified": TIME} for name in here if name not in folders
            ],
            "CommonPrefixes": [{"Prefix": name} for name in folders],
            "IsTruncated": rest is not None,
            **({"NextContinuationToken": here[-1]} if rest is not None else {}),
        }

    def _names(self, prefix, delimiter, start):
        last = None
        for number in range(bisect.bisect_left(self._keys, start) if self._is_sorted else 0, len(self._keys)):
            key = self._keys[number]
            if key.startswith(prefix):
                head, slash, _ = key[len(prefix) :].partition("/")
                name = prefix + head + slash if delimiter and slash else key
                if name != last:
                    yield name
                last = name
            elif self._is_sorted:
                return
