"""Every error that motivnet raises on purpose, and the exit codes of the command.

    MotivNetError
      ConfigError          a wrong value or combination                      exit 2
      WeightsError         weights missing, damaged or of another network    exit 2
        MissingWeightsError  those of a model that is not in the store       exit 2
      OutputConflictError  the output belongs to another run or process      exit 2
      FetchError           a file could not be brought here, or is not it    exit 1
      WorkerError          worker processes died again and again             exit 1
      TrainingError        a loss that is no number                          exit 1
      InputError           one input that cannot be read: a row, never an end

Anything else that escapes is a fault in motivnet or of the machine: exit 1.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_TOO_MANY_FAILED = 3
EXIT_BELOW_MINIMUM = 4
EXIT_NOT_WHOLE = 5
EXIT_STOPPED_RESUMABLE = 75
EXIT_INTERRUPTED = 130


ErrorType = Literal[
    "not_found",
    "broken_link",
    "link_loop",
    "link_leaves_root",
    "permission_denied",
    "unreadable_folder",
    "read_error",
    "unreachable",
    "refused_url",
    "changed",
    "is_a_folder",
    "not_a_file",
    "empty_file",
    "not_an_image",
    "not_a_video",
    "not_an_archive",
    "no_video_stream",
    "no_frame_in_part",
    "unsupported",
    "truncated",
    "damaged",
    "zero_size",
    "too_large",
    "out_of_memory",
    "decoder_crash",
    "decoder_stall",
    "frame_count_mismatch",
    "time_restarts",
    "other_streams",
    "decoder_errors",
    "bad_box",
    "bad_prediction",
]
"""What can be wrong with an input: the values of `error_type` in the inputs table (docs/errors.md)."""


REMARKS: tuple[ErrorType, ...] = ("frame_count_mismatch", "time_restarts", "other_streams", "decoder_errors")
"""Those that an input may have that was read whole."""


MAX_MESSAGE_LENGTH = 2000
"""Characters, of which a message of ours takes a few hundred, beside what it quotes."""


class MotivNetError(Exception):
    """The root of the errors whose message is written for the user.

    A message may quote a cell, a name or a library's words of any length: the middle of a long one is left out.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > MAX_MESSAGE_LENGTH:
            message = f"{message[: MAX_MESSAGE_LENGTH * 3 // 4]} [...] {message[-MAX_MESSAGE_LENGTH // 4 :]}"
        super().__init__(message)


class ConfigError(MotivNetError):
    """An option has a wrong value, or options contradict each other."""


class WeightsError(MotivNetError):
    """A weights file is missing, damaged, or holds another network."""


class MissingWeightsError(WeightsError):
    """The weights of a model of the catalogue are not in the store.

    Args:
        name: Of the model.
        store: Folder of the store that was looked into.
    """

    def __init__(self, message: str, *, name: str, store: str) -> None:
        super().__init__(message)
        self.name = name
        self.store = store


class OutputConflictError(MotivNetError):
    """The output holds another run's work, or another process is writing it."""


class FetchError(MotivNetError):
    """A file could not be downloaded, or what came is not the file; nothing was left under its name."""


class WorkerError(MotivNetError):
    """Processes that share a run died one after the other; what they committed is kept."""


class TrainingError(MotivNetError):
    """The loss of a training, or its gradient, is no number; the last checkpoint is kept."""


class InputError(MotivNetError):
    """One input cannot be used; it ends as a `failed` row of the inputs table.

    Args:
        error_type: A short stable name to filter by.
        message: One sentence for a person.
    """

    def __init__(self, error_type: ErrorType, message: str) -> None:
        super().__init__(message)
        self.error_type: ErrorType = error_type


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of our own; the error's class where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def one_line(text: str) -> str:
    """The text on one line, fit for a terminal and a log: what does not print as itself stands as an escape.

    Ends of lines, commands to a terminal, marks that turn the direction of writing and halves of surrogate pairs
    become `\\n`, `\\x1b`, `\\u202e`, `\\udcff`; letters of every script stay.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a message about a word that is not known: the known one that it resembles, if any."""
    import difflib

    similar = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


def error_type_of(error: OSError) -> ErrorType:
    """What the system's refusal to open or read a file means for an input."""
    return _ERROR_TYPES.get(error.errno or 0, "read_error")


_ERROR_TYPES: dict[int, ErrorType] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENAMETOOLONG: "not_found",
    errno.ELOOP: "link_loop",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.EISDIR: "is_a_folder",
    errno.ENOMEM: "out_of_memory",
}
