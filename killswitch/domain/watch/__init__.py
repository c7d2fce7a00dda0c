"""Watch: turns readings, and their age, into breaches. It stands apart from latches."""
