"""Tools of the project's own: run from a checkout, never installed."""
