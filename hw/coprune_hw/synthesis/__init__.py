"""From gateware to netlists."""
