"""What was measured, shown: tables for the terminal and one page for a browser."""

from firsttoken.callable_package import make_callable

make_callable(__name__)
