"""`python -m motivnet_cli` is `motivnet`."""

import sys

if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        sys.path.pop(0)  # the working folder, where nothing is imported from: it may be a data set
    from motivnet_cli.cli import main

    main()
