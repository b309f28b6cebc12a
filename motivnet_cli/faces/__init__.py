"""Where faces are in a picture, and their pixels."""
