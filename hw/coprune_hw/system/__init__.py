"""What surrounds the accelerator on a board: memory, links, and the top level that joins them."""
