"""Training: data, rollout, objectives, algorithms, evaluation and the command line."""
