"""The truths that the RTL is held against: integer reference, instruction simulator, co-simulation."""
