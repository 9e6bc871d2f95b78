"""One unit on the bench."""
