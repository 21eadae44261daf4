/* Calls the driver in C as the commands on standard input say, one a line.
 *
 *   c_driver_main BUS MEMORY_ADDRESS MEMORY_BYTES MOST_LOOKS
 *
 * A command is answered by "= <result> <numbers>". Before that come accesses, each of which whoever
 * reads answers by "<failed> <value>": bytes lie in transfer.bin. BUS is "called"; or "cached": the
 * memory is mapped, but to a copy of its own, which the two hooks make equal to the real one; or
 * "mapped": the registers are too, to what registers.bin has.
 *
 * Compiled with INTEGER and UNPACK_INTEGERS, type and function of integer outputs, and COUNTERS,
 * which names the counters to its argument.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

#define MAPPED_BYTES (1 << 20)

static float numbers[NET_INPUT_VALUES];
static int8_t integers[NET_INPUT_VALUES];
static uint8_t input[NET_INPUT_BYTES];
static uint8_t output[NET_OUTPUT_BYTES];
static float results[NET_OUTPUT_VALUES];
static INTEGER integer_results[NET_OUTPUT_VALUES];
static uint32_t registers[64];
COPRUNE_ALIGNED(64) static uint8_t cache[MAPPED_BYTES];

static void fail(const char* what) {
  perror(what);
  exit(2);
}

static void read_file(const char* name, void* bytes, size_t count) {
  FILE* file = fopen(name, "rb");

  if (file == NULL || fread(bytes, 1, count, file) != count) fail(name);
  fclose(file);
}

static void write_file(const char* name, const void* bytes, size_t count) {
  FILE* file = fopen(name, "wb");

  if (file == NULL || fwrite(bytes, 1, count, file) != count) fail(name);
  fclose(file);
}

/* Send what was printed, and take the answer. */
static int ask(uint32_t* value) {
  int failed = 1;

  fflush(stdout);
  if (scanf("%d %" SCNu32, &failed, value) != 2) fail("answer");
  return failed;
}

static int read_register(void* context, uint32_t address, uint32_t* value) {
  (void)context;
  printf("read %" PRIu32 "\n", address);
  return ask(value);
}

static int write_register(void* context, uint32_t address, uint32_t value) {
  uint32_t nothing;

  (void)context;
  printf("write %" PRIu32 " %" PRIu32 "\n", address, value);
  return ask(&nothing);
}

static int read_memory(void* context, uint32_t offset, uint8_t* bytes, uint32_t count) {
  uint32_t nothing;
  int failed;

  (void)context;
  printf("get %" PRIu32 " %" PRIu32 "\n", offset, count);
  failed = ask(&nothing);
  if (!failed) read_file("transfer.bin", bytes, count);
  return failed;
}

static int write_memory(void* context, uint32_t offset, const uint8_t* bytes, uint32_t count) {
  uint32_t nothing;

  (void)context;
  write_file("transfer.bin", bytes, count);
  printf("put %" PRIu32 " %" PRIu32 "\n", offset, count);
  return ask(&nothing);
}

static int wait_for_interrupt(void* wait_context) {
  uint32_t nothing;

  (void)wait_context;
  printf("wait\n");
  return ask(&nothing);
}

static uint32_t cached_offset(volatile uint8_t* begin) { return (uint32_t)(begin - cache); }

static void clean(volatile uint8_t* begin, uint32_t bytes) {
  const uint32_t offset = cached_offset(begin);

  (void)write_memory(NULL, offset, cache + offset, bytes);
}

static void invalidate(volatile uint8_t* begin, uint32_t bytes) {
  const uint32_t offset = cached_offset(begin);

  (void)read_memory(NULL, offset, cache + offset, bytes);
}

static void print_counters(const struct coprune_counter_values* counters) {
#define PRINT(name) printf(" " #name " %" PRIu32, counters->name);
  COUNTERS(PRINT)
}

static enum coprune_result pack_file(void) {
  enum coprune_result result;

  read_file("input.f32", numbers, sizeof numbers);
  result = net_pack_input(numbers, input);
  write_file("packed.bin", input, sizeof input);
  return result;
}

static void pack_integer_file(void) {
  read_file("input.int8", integers, sizeof integers);
  net_pack_input_int8(integers, input);
  write_file("packed.bin", input, sizeof input);
}

static enum coprune_result run(struct coprune* device) {
  const enum coprune_result result = coprune_run(device, input, output);

  net_unpack_output(output, results);
  write_file("output.f32", results, sizeof results);
  UNPACK_INTEGERS(output, integer_results);
  write_file("output.integers", integer_results, sizeof integer_results);
  return result;
}

static void print_result(enum coprune_result result) { printf("= %d", (int)result); }

static int is_command(const char* command, const char* name) { return strcmp(command, name) == 0; }

int main(int argc, char** argv) {
  struct coprune_mapped mapped = {registers, cache, clean, invalidate};
  struct coprune_bus bus;
  struct coprune device;
  char command[16];

  if (argc != 5) return 2;
  coprune_map(&bus, &mapped, (uint32_t)strtoul(argv[2], NULL, 10),
              (uint32_t)strtoul(argv[3], NULL, 10));
  if (strcmp(argv[1], "mapped") == 0) {
    read_file("registers.bin", registers, sizeof registers);
  } else {
    bus.read_register = read_register;
    bus.write_register = write_register;
  }
  bus.wait = wait_for_interrupt;
  bus.most_looks = (uint32_t)strtoul(argv[4], NULL, 10);
  if (strcmp(argv[1], "called") == 0) {
    bus.read_memory = read_memory;
    bus.write_memory = write_memory;
  }
  while (scanf("%15s", command) == 1) {
    struct coprune_counter_values counters;
    struct coprune_status_fields status;
    struct coprune_geometry_fields geometry;
    uint32_t number;

    if (is_command(command, "open")) {
      print_result(coprune_open(&device, &bus));
    } else if (is_command(command, "load")) {
      print_result(coprune_load(&device, &net_program));
    } else if (is_command(command, "pack")) {
      print_result(pack_file());
    } else if (is_command(command, "pack_int8")) {
      pack_integer_file();
      print_result(COPRUNE_OK);
    } else if (is_command(command, "run")) {
      print_result(run(&device));
    } else if (is_command(command, "start")) {
      print_result(coprune_start(&device));
    } else if (is_command(command, "wait")) {
      print_result(coprune_wait(&device));
    } else if (is_command(command, "acknowledge")) {
      print_result(coprune_acknowledge(&device));
    } else if (is_command(command, "reset")) {
      print_result(coprune_reset(&device));
    } else if (is_command(command, "status")) {
      print_result(coprune_status(&device, &status));
      printf(" state %" PRIu32 " interrupt %" PRIu32 " bus_busy %" PRIu32 " error %" PRIu32,
             status.state, status.interrupt, status.bus_busy, status.error);
    } else if (is_command(command, "geometry")) {
      print_result(coprune_geometry(&device, &geometry));
      printf(" lanes %" PRIu32 " columns %" PRIu32 " bus_bytes %" PRIu32, geometry.lanes,
             geometry.columns, geometry.bus_bytes);
    } else if (is_command(command, "counters")) {
      print_result(coprune_counters(&device, &counters));
      print_counters(&counters);
    } else if (is_command(command, "layer")) {
      enum coprune_result result;

      if (scanf("%" SCNu32, &number) != 1) fail("layer");
      result = coprune_layer_counters(&device, number, &counters);
      print_result(result);
      if (result == COPRUNE_OK) {
        printf(" %s", net_program.layers[number].name);
        print_counters(&counters);
      }
    } else if (is_command(command, "registers")) {
      write_file("registers.bin", registers, sizeof registers);
      print_result(COPRUNE_OK);
    } else if (is_command(command, "say")) {
      if (scanf("%" SCNu32, &number) != 1) fail("say");
      printf("= %s", coprune_strerror((enum coprune_result)number));
    } else {
      fail(command);
    }
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
