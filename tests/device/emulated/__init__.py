"""An emulated phone for the tests: Debian's adbd in its own namespaces, with scripted Android services and app behind it."""
