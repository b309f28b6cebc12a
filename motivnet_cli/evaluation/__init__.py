"""Labelled sets, predictions, and the figures that compare them."""
