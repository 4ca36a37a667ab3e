"""The driver: grids in, trained trials, records, statistics and a report out."""
