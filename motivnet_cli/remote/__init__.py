"""Bytes behind URLs: listing, reading and downloading them."""
