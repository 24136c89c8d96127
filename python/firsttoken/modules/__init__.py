"""Models that are no decoder with a cache: classifiers, encoders, series. What comes in, its layers by name, its bundle, its proof."""
