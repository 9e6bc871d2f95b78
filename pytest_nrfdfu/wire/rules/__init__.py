"""The rules of the linter: each finds one way in which a host's packets go wrong, and says what to do about it."""
