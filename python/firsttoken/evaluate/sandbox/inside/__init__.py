"""What runs inside the sandbox: two guarded processes that import nothing of firsttoken."""
