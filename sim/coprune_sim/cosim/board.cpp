// The far end of a simulated system's UART, bit by bit: a main program for the model of
// `coprune_hw.system.System`.
//
// Reads commands from standard input, one a line, numbers in decimal:
//   begin <bit_cycles>                 reset the system; a bit takes so many cycles
//   send <hexadecimal>                 put bytes on the line, after those that are on their way
//   receive <bytes> <timeout_cycles>   run until so many bytes have come, or none was on the line
//                                      for so many cycles; prints them, hexadecimal
//   forget                             drop what has come
//   load|dump <index> <address> <bytes>
//                                      put load_<index>.bin into the memory, or write
//                                      dump_<index>.bin, without simulated time
//   cycles                             prints the cycles since `begin`
//   echo                               prints an empty line: all before it is done

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_sym_props.h"
#include "verilated_syms.h"

namespace {

constexpr int kFrameBits = 10;

[[noreturn]] void fail(const std::string& reason) {
  std::fprintf(stderr, "%s\n", reason.c_str());
  std::exit(1);
}

// A byte on the line, to the system.
class Sender {
 public:
  bool idle() const { return bits_left_ == 0 && bytes_.empty(); }
  void put(uint8_t byte) { bytes_.push_back(byte); }

  bool next(int bit_cycles) {
    if (countdown_ == 0 && bits_left_ != 0) {
      frame_ >>= 1;
      --bits_left_;
      countdown_ = bit_cycles;
    }
    if (bits_left_ == 0) {
      if (bytes_.empty()) return true;
      frame_ = 1 << (kFrameBits - 1) | bytes_.front() << 1;
      bytes_.pop_front();
      bits_left_ = kFrameBits;
      countdown_ = bit_cycles;
    }
    --countdown_;
    return frame_ & 1;
  }

 private:
  std::deque<uint8_t> bytes_;
  int frame_ = 0, bits_left_ = 0, countdown_ = 0;
};

// Bytes from the line, from the system.
class Receiver {
 public:
  bool idle() const { return bits_left_ == 0; }
  std::deque<uint8_t>& bytes() { return bytes_; }

  void take(bool line, int bit_cycles) {
    if (bits_left_ == 0) {
      if (line) return;
      bits_left_ = kFrameBits;
      countdown_ = bit_cycles / 2;
    } else if (--countdown_ == 0) {
      countdown_ = bit_cycles;
      frame_ = frame_ >> 1 | line << (kFrameBits - 1);
      if (--bits_left_ != 0) return;
      if ((frame_ & 1) || !line) fail("the system sent a byte without start or stop bit");
      bytes_.push_back(frame_ >> 1);
    }
  }

 private:
  std::deque<uint8_t> bytes_;
  int frame_ = 0, bits_left_ = 0, countdown_ = 0;
};

class Board {
 public:
  Board(VerilatedContext* context, std::string folder) : top_(context), folder_(folder) {
    top_.clk = 0;
    top_.rst = 1;
    top_.rx = 1;
    top_.eval();
    const VerilatedScope* scope = context->scopeFind("TOP.coprune_system.memory");
    if (scope == nullptr) fail("the system has no memory");
    VerilatedVar* words = scope->varFind("words");
    memory_ = static_cast<char*>(words->datap());
    memory_bytes_ = words->totalSize();
  }

  ~Board() { top_.final(); }

  void begin(int bit_cycles) {
    bit_cycles_ = bit_cycles;
    top_.rst = 1;
    for (int i = 0; i < 4; ++i) cycle();
    top_.rst = 0;
    cycles_ = 0;
  }

  void send(const std::string& content) {
    for (size_t i = 0; i + 1 < content.size(); i += 2)
      sender_.put(std::stoi(content.substr(i, 2), nullptr, 16));
  }

  void receive(size_t bytes, uint32_t timeout_cycles) {
    auto& received = receiver_.bytes();
    uint32_t silent_cycles = 0;
    while (received.size() < bytes && silent_cycles < timeout_cycles) {
      cycle();
      silent_cycles = sender_.idle() && receiver_.idle() ? silent_cycles + 1 : 0;
    }
    for (; bytes != 0 && !received.empty(); --bytes) {
      std::printf("%02x", received.front());
      received.pop_front();
    }
    std::puts("");
  }

  void forget() { receiver_.bytes().clear(); }

  void load(uint32_t index, uint32_t address, uint32_t bytes) {
    std::ifstream file(path("load", index), std::ios::binary);
    file.read(place(address, bytes), bytes);
    if (!file) fail("cannot read " + path("load", index));
  }

  void dump(uint32_t index, uint32_t address, uint32_t bytes) {
    std::ofstream file(path("dump", index), std::ios::binary);
    file.write(place(address, bytes), bytes);
    if (!file) fail("cannot write " + path("dump", index));
  }

  unsigned long long cycles() const { return cycles_; }

 private:
  void cycle() {
    top_.rx = sender_.next(bit_cycles_);
    top_.clk = 1;
    top_.eval();
    top_.clk = 0;
    top_.eval();
    receiver_.take(top_.tx, bit_cycles_);
    ++cycles_;
  }

  std::string path(const std::string& kind, uint32_t index) const {
    return folder_ + "/" + kind + "_" + std::to_string(index) + ".bin";
  }

  char* place(uint32_t address, uint32_t bytes) const {
    if (uint64_t{address} + bytes > memory_bytes_)
      fail("the memory has " + std::to_string(memory_bytes_) + " bytes: none at " +
           std::to_string(uint64_t{address} + bytes - 1));
    return memory_ + address;
  }

  Vtop top_;
  std::string folder_;
  Sender sender_;
  Receiver receiver_;
  char* memory_;
  uint64_t memory_bytes_;
  int bit_cycles_ = 1;
  unsigned long long cycles_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  const std::string folder = context.commandArgsPlusMatch("folder=");
  Board board(&context, folder.substr(folder.find('=') + 1));
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string command, content;
    uint32_t a = 0, b = 0, c = 0;
    words >> command;
    if (command == "send") {
      words >> content;
      board.send(content);
    } else {
      words >> a >> b >> c;
      if (command == "begin") board.begin(a);
      else if (command == "receive") board.receive(a, b);
      else if (command == "forget") board.forget();
      else if (command == "load") board.load(a, b, c);
      else if (command == "dump") board.dump(a, b, c);
      else if (command == "cycles") std::printf("%llu\n", board.cycles());
      else if (command == "echo") std::puts("");
      else fail("no command " + command);
    }
    std::fflush(stdout);
  }
  return 0;
}
