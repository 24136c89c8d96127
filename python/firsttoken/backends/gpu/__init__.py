"""LiteRT's GPU accelerator (ML Drift): graphs of fixed lengths in which every operator is one that it computes right."""
