"""Executing on a Ray cluster."""
