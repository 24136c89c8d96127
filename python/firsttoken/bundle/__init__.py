"""The bundle folder: manifest, lineage, hashes, and writing it whole or not at all."""
