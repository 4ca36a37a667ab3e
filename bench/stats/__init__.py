"""Pure numbers: estimates, families of comparisons, power. Free of pandas."""
