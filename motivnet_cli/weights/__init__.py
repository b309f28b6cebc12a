"""A model name or a checkpoint file -> a network with its weights."""
