"""The command line over the kubewire packages."""

__version__ = "0.1.0"
