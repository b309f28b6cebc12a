"""What is read: files, lists, manifests, archives, pictures and videos -> items and frames."""
