"""Teachers behind an OpenAI-compatible server: answers to train on, and log probabilities for a cache."""
