"""One client's session as a state machine without I/O: bytes in, outputs out (`machine.Session`, `outputs`)."""
