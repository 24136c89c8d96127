"""Search over a recipe's temperature, loss weights, layer pairs and learning rate: Optuna draws, successive halving stops."""
