"""Co-simulation of the RTL under cocotb and Verilator."""
