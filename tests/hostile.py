"""Names that a stranger may have given to a file, a column, a class or a model, and what no channel may pass on."""

from __future__ import annotations

import os
import sys

FILE_NAMES = {
    "terminal": "\x1b[31mred\x1b]0;title\x07\x1b]8;;file:here\x1b\\.png",
    "terminal in 8 bits": "\x9b31m\x90q\x9c.png",
    "bells and returns": "a\rb\bc\x7f\x0b.png",
    "lines": "a\nfailed: forged.jpg: a line of its own\n.png",
    "separators": "a\u2028b\u2029c\x85d.png",
    "direction": "\u202egnp.exe\u2066x\u200f.png",
    "markup of rich": "[red]x[/bold][link=file:here]y[/link].png",
    "markup that does not end": "x[/y.png",
    "emoji of rich": ":skull: :warning:.png",
    "html": "<img src=x onerror=alert(1)>\"'&lt;.png",
    "formula": "=cmd|' -C calc'!A1.png",
    "formula, full width": "\N{FULLWIDTH EQUALS SIGN}1+1.png",
    "formula, at": "@SUM(1).png",
    "formula, tab": "\t=1+1.png",
    "cue": "00:00:00.000 --> 00:00:09.000 {\\an8}.png",
    "shell": "$(touch pwned)`touch pwned`';touch pwned;.png",
    "template": "{{ 7 * 7 }}{% raw %}${7}<%= 7 %>.png",
    "format": "%s%n%(x)s{0.__class__}.png",
    "option": "--overwrite.png",
    "markdown": "[x](javascript:alert(1)) ![y](z) | # _*.png",
    **({"not utf-8": os.fsdecode(b"\xff\xfe.png")} if sys.platform == "linux" else {}),
}
"""Each is a name that a file can have; what it attacks -> the name."""

NAMES = {
    **{what: name for what, name in FILE_NAMES.items() if what != "not utf-8"},
    "element": "</td></script><script>alert(1)</script><svg onload=alert(1)>.png",
    "attribute": '" onmouseover="alert(1)" x=".png',
    "address": "javascript:alert(1)//.png",
    "above": "../../../above.png",
    "absolute": "/tmp/motivnet-absolute/x.png",
    "drive": "C:\\..\\..\\x.png",
    "nul": "a\0b.png",
    "xml": "]]><!--<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>&y;.png",
}
"""Each is a name that a table can hold."""


def live_characters(text: str, *, allowed: str = "\n") -> set[str]:
    """The characters of a text that do not print as themselves: commands, ends of lines, changes of direction."""
    return {character for character in text if not character.isprintable()} - set(allowed)
