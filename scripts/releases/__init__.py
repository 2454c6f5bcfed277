"""What was promised in the last release, and what has changed since: in the contract, and in the Python API."""
