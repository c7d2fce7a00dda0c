"""First floor: bytes to messages and back. No I/O, no clock."""
