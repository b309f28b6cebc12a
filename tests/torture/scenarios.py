"""What is run: each scenario is a command (or several at once) on an output, and what it writes undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.torture.check import Finding, Rows, compare, is_stray_key, litter, read_rows
from tests.torture.corpus import BROKEN, make_corpus, make_faces, picture_of
from tests.torture.faults import NO_FAULT, Call, Fault, calls_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.s3_server import S3Server
    from tests.torture.starts import Start, Starter

WHOLE = ("--faces", "whole", "--frames", "all", "--batch-size", "4")
COMMON = ("--model", "expression-net", "--commit-seconds", "0", "--threads", "2", "--max-failures", "100%")
_MAX_STARTS = 6
"""The same command, until it has finished."""


@dataclass(frozen=True)
class Scenario:
    """A command, and the state of the output before it."""

    name: str
    out: str
    """Name of the output."""
    inputs: Path
    options: tuple[str, ...]
    before: Path | None = None
    """A folder that holds a finished output, which is amended or replaced."""
    shards: int = 0
    """So many processes share the run; 0: one does it alone."""
    is_remote: bool = False
    """The output is in a bucket."""

    def arguments(self, place: Place, *, inputs: Path | None = None, shard: int = 0) -> list[str]:
        arguments = ["annotate", str(inputs or self.inputs), "--out", place.url_of(self.out), *COMMON, *self.options]
        return [*arguments, "--shard", f"{shard}/{self.shards}"] if self.shards else arguments


@dataclass(frozen=True)
class Undisturbed:
    """What a scenario comes to when nothing happens to it."""

    rows: Rows
    calls: list[Call]


class Place:
    """The folders of one case: `disk/`, on which the shim counts what is written, and notes beside it.

    Args:
        bucket: Where the output lies in place of `disk/out`, if it does.
    """

    def __init__(self, folder: Path, *, server: S3Server | None = None) -> None:
        self.folder = folder
        self.disk, self.notes = folder / "disk", folder / "notes"
        self.out_folder, self.tmp, self.store = (self.disk / name for name in ("out", "tmp", "store"))
        self.notes.mkdir(parents=True)
        self.make_disk()
        self.server = server
        self.bucket = server.new_bucket() if server else ""

    def make_disk(self) -> None:
        for each in (self.out_folder, self.tmp, self.store):
            each.mkdir(parents=True, exist_ok=True)

    def url_of(self, out: str) -> str:
        return f"s3://{self.bucket}/{out}" if self.server else str(self.out_folder / out)

    def environment(self, fault: Fault) -> dict[str, str]:
        mine = {"TMPDIR": str(self.tmp), "MOTIVNET_HOME": str(self.store)}
        return mine | fault.environment(self.disk, self.notes) | (self.server.environment() if self.server else {})

    def fetched(self, out: str) -> Path:
        """The output on this machine."""
        if not self.server:
            return self.out_folder / out
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        for key in self.server.keys(self.bucket):
            (copy / key).parent.mkdir(parents=True, exist_ok=True)
            (copy / key).write_bytes(self.server.content(self.bucket, key))
        return copy / out

    def strays(self, out: str) -> list[Finding]:
        """What a finished run has left and should not have."""
        found = litter(self.out_folder, self.out_folder / out, empty=(self.tmp, self.store))
        keys = self.server.keys(self.bucket) if self.server else []
        return found + [Finding("litter", f"s3://{self.bucket}/{key}") for key in keys if is_stray_key(key)]


@dataclass
class Disturbed:
    """What came of a run that was disturbed."""

    findings: list[Finding] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    """Exit codes, of the disturbed start first; a signal's number, negative."""
    hits: int = 0
    """Calls that the shim acted upon."""

    def add(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, text))  # type: ignore[arg-type]


class Laboratory:
    """The scenarios, and what runs them.

    Args:
        folder: For the inputs and the cases.
    """

    def __init__(self, folder: Path, starter: Starter, server: S3Server | None = None) -> None:
        self.folder = folder
        self.starter = starter
        self.server = server
        self.mixed = make_corpus(folder / "mixed")
        faces = make_faces(folder / "faces")
        self.scenarios = {
            each.name: each
            for each in (
                Scenario("file", "preds.parquet", self.mixed, WHOLE),
                Scenario("folder", "preds", self.mixed, WHOLE),
                Scenario("tracks", "preds", faces, ("--frames", "all", "--track", "--batch-size", "2")),
                Scenario("devices", "preds.parquet", self.mixed, (*WHOLE, "--devices", "cpu,cpu")),
                Scenario("two shards", "preds.parquet", self.mixed, WHOLE, shards=2),
                Scenario("five shards", "preds", self.mixed, WHOLE, shards=5),
            )
        }
        if server:
            for name, out in (("bucket, file", "preds.parquet"), ("bucket, folder", "preds")):
                self.scenarios[name] = Scenario(name, out, self.mixed, WHOLE, is_remote=True)
        self._undisturbed: dict[str, Undisturbed] = {}
        self._seconds_of_process: dict[str, float] = {}
        self._changed_rows: dict[tuple[str, str], Rows] = {}
        self._num_places = 0
        self._prepare_amendments()

    def _prepare_amendments(self) -> None:
        """Outputs that are finished and amended: inputs that failed, that are new, and settings that replace them."""
        for name, out, options in (
            ("retry", "preds.parquet", ("--retry-failed",)),
            ("extend", "preds", ("--extend",)),
            ("overwrite", "preds.parquet", ("--overwrite", "--margin", "0.4")),
        ):
            inputs = make_corpus(self.folder / f"inputs-{name}")
            first = Scenario(f"before {name}", out, inputs, WHOLE)
            with self.place(first) as place:
                assert self.finish(first, place) == [0], place.notes
                before = shutil.copytree(place.out_folder, self.folder / f"before-{name}")
            picture_of(3, inputs / BROKEN)
            if name == "extend":
                picture_of(20, inputs / "99.jpg")
            self.scenarios[name] = Scenario(name, out, inputs, (*WHOLE, *options), before)

    @contextmanager
    def place(self, scenario: Scenario, name: str = "") -> Iterator[Place]:
        """Folders for one case; removed at its end unless `name` is given."""
        self._num_places += 1
        place = Place(
            self.folder / (name or f"case-{self._num_places}"), server=self.server if scenario.is_remote else None
        )
        if scenario.before:
            shutil.copytree(scenario.before, place.out_folder, dirs_exist_ok=True)
        yield place
        if not name:
            shutil.rmtree(place.folder, ignore_errors=True)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        if scenario.name not in self._undisturbed:
            with self.place(scenario) as place:
                codes = self.finish(scenario, place, max_starts=1)
                assert codes == [0] * max(1, scenario.shards), (scenario.name, codes, place.notes)
                rows = read_rows(place.fetched(scenario.out))
                assert not place.strays(scenario.out), place.strays(scenario.out)
                self._undisturbed[scenario.name] = Undisturbed(rows, calls_in(place.notes))
        return self._undisturbed[scenario.name]

    def seconds_of_process(self, scenario: Scenario) -> float:
        """How long a process of its own takes, undisturbed."""
        if scenario.name not in self._seconds_of_process:
            with self.place(scenario) as place:
                began = time.monotonic()
                assert self.end_of(self.start(scenario, place, forked=False)) == 0, place.notes
                self._seconds_of_process[scenario.name] = time.monotonic() - began
        return self._seconds_of_process[scenario.name]

    def start(
        self,
        scenario: Scenario,
        place: Place,
        fault: Fault = NO_FAULT,
        *,
        inputs: Path | None = None,
        forked: bool = True,
        file_limit: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> Start:
        """Start the command; of a scenario for several processes, the first of them."""
        return self.starter.start(
            scenario.arguments(place, inputs=inputs),
            place.notes,
            env={**place.environment(fault), **(env or {})},
            forked=forked,
            file_limit=file_limit,
        )

    def start_all(self, scenario: Scenario, place: Place, fault: Fault, *, inputs: Path | None = None) -> list[Start]:
        """Start all processes of a scenario, which share the shim's count."""
        environment = place.environment(fault)
        return [
            self.starter.start(scenario.arguments(place, inputs=inputs, shard=shard), place.notes, env=environment)
            for shard in range(max(1, scenario.shards))
        ]

    def finish(
        self,
        scenario: Scenario,
        place: Place,
        *,
        inputs: Path | None = None,
        max_starts: int = _MAX_STARTS,
        result: Disturbed | None = None,
    ) -> list[int]:
        """Give the same command until it has finished, undisturbed; the exit codes."""
        codes: list[int] = []
        for _ in range(max_starts):
            each = [self.end_of(start, result) for start in self.start_all(scenario, place, NO_FAULT, inputs=inputs)]
            codes += each
            if not any(each):
                break
        return codes

    def end_of(self, start: Start, result: Disturbed | None = None, *, patience: float = 1.0) -> int:
        """Wait for a start and its children; what is wrong with its end goes to `result`.

        Args:
            patience: It may take so many times longer than others.
        """
        result = result or Disturbed()
        try:
            code = start.wait(patience=patience)
        except TimeoutError as error:
            result.add("hang", f"{error}: {start.talk[-3000:]}")
            code = -signal.SIGABRT
        assert code is not None, "no other end was asked for"
        if not start.is_group_gone():
            result.add("hang", "children outlive the run")
        for word in ("Traceback", "a fault in motivnet", "Exception ignored"):
            if word in start.talk and code != -signal.SIGABRT:
                result.add("unexplained", f"{word}: {start.talk[-1500:]}")
        return code

    def settle(
        self,
        scenario: Scenario,
        place: Place,
        result: Disturbed,
        *,
        changed: str | None = None,
        inputs: Path | None = None,
    ) -> Disturbed:
        """Finish what was disturbed by the same command, and hold it against the undisturbed run."""
        expected = self.undisturbed(scenario).rows
        result.hits = sum(call.is_hit for call in calls_in(place.notes))
        if result.codes and result.codes[0] == 0 and not scenario.shards:
            for each in compare(place.fetched(scenario.out), expected, changed=changed):
                result.add(each.kind, f"after exit code 0: {each.text}")
        codes = self.finish(scenario, place, inputs=inputs, result=result)
        result.codes += codes
        if any(codes[-max(1, scenario.shards) :]):
            result.add("unexplained", f"the same command does not finish: {codes}; {_last_talk(place)}")
            return result
        result.findings += compare(place.fetched(scenario.out), expected, changed=changed)
        result.findings += place.strays(scenario.out)
        result.findings += self._second_opinion(scenario, place)
        return result

    def versions(self, scenario: Scenario, inputs: Path, changed: str, how: str) -> list[Rows]:
        """What undisturbed runs say of an input before and after its file was changed."""
        versions = [self.undisturbed(scenario).rows]
        if (inputs / changed).exists():
            key = (changed, how)
            if key not in self._changed_rows:
                with self.place(scenario) as place:
                    alone = place.folder / "inputs"
                    alone.mkdir()
                    shutil.copy2(inputs / changed, alone)
                    assert self.finish(scenario, place, inputs=alone) == [0], place.notes
                    self._changed_rows[key] = read_rows(place.fetched(scenario.out))
            versions.append(self._changed_rows[key])
        return versions

    def _second_opinion(self, scenario: Scenario, place: Place) -> list[Finding]:
        """What `motivnet verify` says of the output."""
        start = self.starter.start(
            ["verify", place.url_of(scenario.out), "--json"], place.notes, env=place.environment(NO_FAULT)
        )
        code = self.end_of(start)
        return [] if code == 0 else [Finding("wrong", f"verify ends with {code}: {start.talk[-800:]}")]


def _last_talk(place: Place) -> str:
    talks = sorted(place.notes.glob("talk-*"), key=os.path.getmtime)
    return talks[-1].read_text(errors="replace")[-800:] if talks else ""
