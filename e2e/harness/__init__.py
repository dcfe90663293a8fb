"""What the end-to-end tests, the evaluation and the load clients share."""
