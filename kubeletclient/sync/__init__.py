"""The blocking flavour: `client` holds what callers use, `process` a running command, the rest is the driver below
them.
"""
