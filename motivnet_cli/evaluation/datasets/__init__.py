"""The labelled sets: what they are, and how they lie on disk."""
