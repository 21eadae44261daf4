"""The way from a host to accelerator and memory over a UART."""
