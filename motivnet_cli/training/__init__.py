"""Networks trained, heads fitted, students taught: labelled faces in, a model of the store out."""
