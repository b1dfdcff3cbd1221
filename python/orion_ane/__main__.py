"""`python -m orion_ane` is `orion`."""

from orion_ane.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
