"""``python -m kubewire`` is the console script."""

from kubewire.cli import main

if __name__ == "__main__":
    main()
