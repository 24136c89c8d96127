"""Every runtime that a decoder is exported to, one folder each, behind one interface."""
