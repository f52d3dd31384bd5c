"""Training: paired batches, a task, and a fit that says nothing it was not asked to say."""
