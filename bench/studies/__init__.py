"""Simulations that validate the statistics and the scale of the driver."""
