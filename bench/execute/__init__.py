"""What is left to do, and who does it."""
