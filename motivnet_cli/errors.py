"""Every error that motivnet raises on purpose, and the exit codes of the command.

    MotivNetError
      ConfigError          a wrong value or combination                      exit 2
      WeightsError         weights missing, damaged or of another network    exit 2
      OutputConflictError  the output belongs to another run or process      exit 2
      FetchError           a file could not be brought here, or is not it    exit 1
      WorkerError          worker processes died again and again             exit 1
      InputError           one input that cannot be read: a row, never an end

Anything else that escapes is a fault of ours or of the machine: exit 1.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_TOO_MANY_FAILED = 3
EXIT_BELOW_MINIMUM = 4
EXIT_STOPPED_RESUMABLE = 75
EXIT_INTERRUPTED = 130


class MotivNetError(Exception):
    """The root of the errors whose message is written for the user."""


class ConfigError(MotivNetError):
    """An option has a wrong value, or options contradict each other."""


class WeightsError(MotivNetError):
    """A weights file is missing, damaged, or holds another network."""


class OutputConflictError(MotivNetError):
    """The output holds another run's work, or another process is writing it."""


class FetchError(MotivNetError):
    """A file could not be downloaded, or what came is not the file; nothing was left under its name."""


class WorkerError(MotivNetError):
    """Processes that share a run died one after the other; what they committed is kept."""


class InputError(MotivNetError):
    """One input cannot be used; it ends as a `failed` row of the inputs table.

    Args:
        error_type: A short stable name to filter by, such as `truncated` or `not_an_image`.
        message: One sentence for a person.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
