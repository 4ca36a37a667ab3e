"""Records in, findings out: what a grid answers, as numbers and verdicts."""
