"""Tests of the board room; a package, because other rooms have modules of the same names."""
