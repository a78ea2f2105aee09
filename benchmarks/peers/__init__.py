"""Processes at the other end of a measured client."""
