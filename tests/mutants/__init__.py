"""Planted bugs: for each thing that must hold, what breaks it, and what finds that out: `make mutants`."""
