"""What scripts/bench measures, one module for each subject. Each figure is a ratio taken in one run."""
