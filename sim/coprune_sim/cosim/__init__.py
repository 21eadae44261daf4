"""Co-simulation of the RTL with cocotb and Verilator."""
