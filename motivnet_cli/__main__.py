"""`python -m motivnet_cli` is `motivnet`."""

from motivnet_cli.cli import main

if __name__ == "__main__":
    main()
