"""What the RTL is held against: integer reference, instruction simulator, co-simulation."""
