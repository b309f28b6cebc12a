"""Batches of faces through the network on its device."""
