"""Fuzzing: files and answers that are damaged with knowledge of their structure, and what the product makes of them."""
