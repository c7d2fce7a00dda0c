"""Pictures: traces, charts and the replay page."""
