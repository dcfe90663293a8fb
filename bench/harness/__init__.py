"""What the benchmark scripts share. Python's standard library and two binaries are all that it needs."""
