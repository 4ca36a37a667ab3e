"""The record: outcomes in, CSV files out."""
