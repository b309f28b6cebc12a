"""Pages: of an evaluation, of a comparison, and of predictions."""
