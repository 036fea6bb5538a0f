"""Noise processes: how a model's clean state is corrupted, what its predictions mean, and how samplers lead back."""
