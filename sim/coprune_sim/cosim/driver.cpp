// The host's side of a simulation in C++: no Python, no cocotb, the same model of bench.v.
//
// Reads commands from standard input, one a line, numbers in decimal:
//   set <port> <value>                 drive a setting of bench.v
//   reset
//   load|dump <index> <address> <bytes>
//   observe <index>                    begin observe_<index>.bin and timeline_<index>.bin
//   end                                end them
//   write <register> <value>           over AXI4-Lite
//   read <register>                    prints the value
//   run                                until interrupt or timeout; prints
//                                      "<interrupt> <violation> <cycles> <seconds>"
//   echo                               prints an empty line: all before it is done
// Cycles and seconds of a `run` begin with the `write` before it, as in bench.py.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int kRegisterTimeoutCycles = 1000;

[[noreturn]] void fail(const std::string& reason) {
  std::fprintf(stderr, "%s\n", reason.c_str());
  std::exit(1);
}

class Bench {
 public:
  explicit Bench(VerilatedContext* context) : top_(context) {
    top_.clk = 0;
    top_.rst = 1;
    cycle();
  }

  ~Bench() { top_.final(); }

  void cycle() {
    top_.clk = 1;
    top_.eval();
    top_.clk = 0;
    top_.eval();
    ++cycles_;
  }

  void set(const std::string& port, uint32_t value) {
    if (port == "latency") top_.latency = value;
    else if (port == "write_latency") top_.write_latency = value;
    else if (port == "stall_level") top_.stall_level = value;
    else if (port == "stall_seed") top_.stall_seed = value;
    else if (port == "error_enable") top_.error_enable = value;
    else if (port == "error_address") top_.error_address = value;
    else if (port == "timeout_cycles") top_.timeout_cycles = value;
    else fail("no port " + port);
  }

  void reset() {
    top_.rst = 1;
    for (int i = 0; i < 4; ++i) cycle();
    top_.rst = 0;
    for (int i = 0; i < 2; ++i) cycle();
  }

  void load(uint32_t index, uint32_t address, uint32_t bytes) {
    transfer(top_.load, index, address, bytes);
  }

  void dump(uint32_t index, uint32_t address, uint32_t bytes) {
    transfer(top_.dump, index, address, bytes);
  }

  void observe(uint32_t index) { transfer(top_.observe_begin, index, 0, 0); }

  void end() { pulse(top_.observe_end); }

  void write(uint32_t address, uint32_t value) {
    begin_ = std::chrono::steady_clock::now();
    begin_cycles_ = cycles_;
    top_.s_axi_awaddr = address;
    top_.s_axi_awvalid = 1;
    top_.s_axi_wdata = value;
    top_.s_axi_wstrb = 0xf;
    top_.s_axi_wvalid = 1;
    top_.s_axi_bready = 1;
    for (int i = 0; i < kRegisterTimeoutCycles; ++i) {
      top_.eval();
      const bool address_taken = top_.s_axi_awvalid && top_.s_axi_awready;
      const bool data_taken = top_.s_axi_wvalid && top_.s_axi_wready;
      const bool answered = top_.s_axi_bvalid;
      cycle();
      if (address_taken) top_.s_axi_awvalid = 0;
      if (data_taken) top_.s_axi_wvalid = 0;
      if (answered) return;
    }
    fail("a register was not written");
  }

  uint32_t read(uint32_t address) {
    top_.s_axi_araddr = address;
    top_.s_axi_arvalid = 1;
    top_.s_axi_rready = 1;
    for (int i = 0; i < kRegisterTimeoutCycles; ++i) {
      top_.eval();
      const bool address_taken = top_.s_axi_arvalid && top_.s_axi_arready;
      const bool answered = top_.s_axi_rvalid;
      const uint32_t value = top_.s_axi_rdata;
      cycle();
      if (address_taken) top_.s_axi_arvalid = 0;
      if (answered) return value;
    }
    fail("a register was not read");
  }

  void run() {
    top_.watch = 1;
    do cycle();
    while (!top_.wake);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin_;
    std::printf("%d %d %llu %.6f\n", int(top_.interrupted), int(top_.violation),
                static_cast<unsigned long long>(cycles_ - begin_cycles_), seconds.count());
    top_.watch = 0;
    cycle();
  }

 private:
  template <typename Port>
  void pulse(Port& port) {
    port = 1;
    cycle();
    port = 0;
  }

  template <typename Port>
  void transfer(Port& port, uint32_t index, uint32_t address, uint32_t bytes) {
    top_.transfer_index = index;
    top_.transfer_address = address;
    top_.transfer_bytes = bytes;
    pulse(port);
  }

  Vtop top_;
  uint64_t cycles_ = 0;
  uint64_t begin_cycles_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Bench bench(&context);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, port;
    uint32_t a = 0, b = 0, c = 0;
    words >> command;
    if (command == "set") {
      words >> port >> a;
      bench.set(port, a);
    } else {
      words >> a >> b >> c;
      if (command == "reset") bench.reset();
      else if (command == "load") bench.load(a, b, c);
      else if (command == "dump") bench.dump(a, b, c);
      else if (command == "observe") bench.observe(a);
      else if (command == "end") bench.end();
      else if (command == "write") bench.write(a, b);
      else if (command == "read") std::printf("%u\n", bench.read(a));
      else if (command == "run") bench.run();
      else if (command == "echo") std::puts("");
      else fail("no command " + command);
    }
    std::fflush(stdout);
  }
  return 0;
}
