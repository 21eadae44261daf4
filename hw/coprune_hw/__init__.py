"""The hardware side of coprune: its contract with the software, and the Amaranth gateware."""
