"""Tables on disk: their folder goes, and a disk that is full says so."""

import errno
import os
import subprocess
import sys
import tempfile

import pyarrow as pa
import pytest

from motivnet_cli.out_of_core import database

FILL = """
import resource
import pyarrow as pa
from motivnet_cli.out_of_core import database

resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
with database() as connection:
    connection.execute("CREATE TABLE numbers AS SELECT hash(range) AS number FROM range(1000000)")
"""


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_is_left(scratch, error):
    """Tables lie where TMPDIR says, and are gone afterwards, also after an error."""
    batch = pa.record_batch({"name": ["b", "a\0", "ä"]})
    try:
        with database() as connection:
            connection.register("rows", pa.RecordBatchReader.from_batches(batch.schema, [batch]))
            connection.execute("CREATE TABLE names AS SELECT name FROM rows")
            assert len(list(scratch.iterdir())) == 2  # the folder, and its lock
            assert connection.execute("SELECT name FROM names ORDER BY name").fetchall() == [("a\0",), ("b",), ("ä",)]
            if error:
                raise error
    except KeyboardInterrupt:
        pass

    assert not list(scratch.iterdir())


def test_full_disk(scratch):
    """What the system says of the disk is what the error says, with the folder."""
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=False)

    assert f"OSError: [Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}: '{scratch}" in done.stderr
    assert not list(scratch.iterdir())
