"""A backend as another package brings it: weights in an .npz, the traversal in numpy. Whole, but for tests alone."""
