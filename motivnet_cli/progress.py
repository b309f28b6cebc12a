"""How a run is watched from Python: a tqdm bar. What the command line shows is in `cli.progress`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.records import Progress


@contextlib.contextmanager
def tqdm_bar() -> Iterator[Callable[[Progress], None]]:
    """A tqdm bar over inputs, for scripts and notebooks: the callback for `annotate(progress=...)`."""
    from tqdm.auto import tqdm

    with tqdm(unit="input") as bar:

        def show(progress: Progress) -> None:
            bar.total, bar.initial = progress.inputs_total, progress.inputs_resumed
            bar.n = progress.inputs_done
            bar.set_postfix(faces=progress.faces, failed=progress.failed, refresh=False)
            bar.update(0)
            bar.refresh()

        yield show
