"""Executes what is left to do of a plan."""
