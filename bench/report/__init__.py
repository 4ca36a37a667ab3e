"""Findings out to people: terminal, page, paper, figures."""
