"""Files that firsttoken did not write: what a stock .tflite, .litertlm or .pte offers, and how it is run, looked into and held to account."""
