"""What a chat template may take."""

SECONDS = 3.0  # of computing; real templates take thousandths
PATIENCE_SECONDS = 60.0  # on the clock, whatever it waits for
MEMORY = 1 << 30  # bytes of address space
LONGEST = 8 << 20  # characters of the rendered text
