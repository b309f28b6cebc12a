"""A fault campaign: runs of `annotate` are killed, starved and lied to, and their output must equal an undisturbed one.

`python -m tests.torture` runs it, `make torture` in full. docs/reliability.md has the counts.
"""
