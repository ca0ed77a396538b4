"""DOOR: what an operator does, one file per group of commands."""
