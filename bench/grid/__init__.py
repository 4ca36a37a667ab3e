"""The grid language: YAML in, a checked plan out."""
