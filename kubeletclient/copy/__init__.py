"""Copies files into and out of containers: verified, resumable, never half done."""
