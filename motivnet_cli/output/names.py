"""The names of an output's files. No other module spells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TABLES = ("faces", "inputs")
"""In the order in which they are written: an output without inputs is not complete."""
INPUTS_SUFFIX = ".inputs.parquet"
"""Of the inputs table beside a single file of faces."""

_SUFFIX = ".parquet"
_LAST = f"-end{_SUFFIX}"


def inputs_beside(faces: Path) -> Path:
    """The inputs table that goes with a single file of faces."""
    return faces.with_suffix(INPUTS_SUFFIX)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one run."""

    control: Path
    """Folder of the plan, the locks and the journal."""
    parts: Path
    """Folder of the parts, in `faces/` and `inputs/`."""

    @classmethod
    def at(cls, path: Path, *, is_file: bool) -> RunFiles:
        """The files of the run whose output is to be at a path: of a folder, the parts are the output."""
        if is_file:
            control = path.with_name(f"{path.name}.work")
            return cls(control, control)
        return cls(path / ".motivnet", path)

    @property
    def about(self) -> Path:
        """What is known of the run; without this file there is none."""
        return self.control / "run.json"

    @property
    def plan(self) -> Path:
        """An item a row; Parquet, under a name that no pattern for tables finds."""
        return self.control / "plan.pq"

    @property
    def former_plan(self) -> Path:
        """Of a run that a former version began: an item a line."""
        return self.control / "plan.jsonl"

    def is_plan(self, name: str) -> bool:
        """Whether a file in `control` is a plan, under its plain name or one with its hash."""
        return name.startswith(self.plan.stem) and name.endswith((self.plan.suffix, self.former_plan.suffix))

    @property
    def lock(self) -> Path:
        """Of who begins the run, finishes it, or does all of it."""
        return self.control / "lock"

    @property
    def claims(self) -> Path:
        """Folder of the locks of units."""
        return self.control / "claims"

    def claim(self, unit: int) -> Path:
        """The lock of who works on a unit."""
        return self.claims / f"{unit:06d}.lock"

    @property
    def journal(self) -> Path:
        """Files that are being renamed as one step."""
        return self.control / "moves.json"

    @property
    def amendment(self) -> RunFiles:
        """The run that amends this one's finished output."""
        return RunFiles(self.control / "amend", self.control / "amend")

    @property
    def pending(self) -> Path:
        """In an object store, the folder of inputs that are about to be committed."""
        return self.control / "pending"

    def pending_part(self, unit: int, segment: int, attempt: str) -> Path:
        """The inputs of a part that a process is about to commit; its name is nobody else's.

        Args:
            attempt: Letters and digits that no other attempt has.
        """
        name = part_name(unit, segment).removesuffix(_SUFFIX)
        return self.pending / f"{name}-{attempt}{self.plan.suffix}"  # which no pattern for tables finds

    def table(self, table: str) -> Path:
        """The folder of a table's parts."""
        return self.parts / table

    def part(self, table: str, unit: int, segment: int, *, is_last: bool = False) -> Path:
        """The `segment`th part of a unit.

        Args:
            is_last: It is the unit's last one, and says so where it is of the inputs, which mark what is done.
        """
        name = part_name(unit, segment)
        return self.table(table) / (name.replace(_SUFFIX, _LAST) if is_last and table == "inputs" else name)


def part_name(unit: int, segment: int = 0) -> str:
    return f"{parts_begin(unit)}{segment:04d}{_SUFFIX}"


def parts_begin(unit: int) -> str:
    """With what the names of all parts of a unit begin, and of no other."""
    return f"part-{unit:06d}-"


def is_last(name: str) -> bool:
    """Whether a part of the inputs says that its unit ends with it; one that says nothing may be its last, too."""
    return name.endswith(_LAST)


def faces_of(inputs: str) -> str:
    """The name of the part of the faces that goes with one of the inputs."""
    return inputs.removesuffix(_LAST) + _SUFFIX if is_last(inputs) else inputs


def is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(_SUFFIX)


def place_of(name: str) -> list[tuple[int, str]]:
    """What sorts names of parts as their numbers, of which some have more digits than others."""
    return [(len(number), number) for number in faces_of(name).removesuffix(_SUFFIX).split("-")]


def unit_of(part: str | Path) -> int:
    """The unit that a part belongs to, by its name."""
    return int(Path(part).stem.split("-")[1])


def segment_of(part: str | Path) -> int:
    """Which part of its unit it is, from 0, by its name."""
    return int(Path(part).stem.split("-")[2])
