"""Parts on their own: one function of the hot path, beside the nearest thing that the standard library has."""
