// DRAM behind an AXI4 slave, for simulation.
//
// Timing, with a handshake in cycle t:
//   read    the first beat of a burst is valid in cycle t + max(1, latency), later beats one per
//           cycle; bursts are answered in order, back to back, up to QUEUE at once
//   write   beats are taken from the cycle after the address on, one per cycle; the response is
//           valid in cycle t + max(1, write_latency) of the last beat, in order
// With stall_level n, each of the five channels pauses in n of 256 cycles, at random (stall_seed).
// A read beat or write burst that touches the bus word at error_address is answered by SLVERR, one
// outside the memory by DECERR. The contents come from and go to binary files in +folder.

module memory #(
    parameter BUS_BITS = 64,
    parameter MEMORY_BYTES = 1 << 26
) (
    input clk,
    input rst,

    input [15:0] latency,
    input [15:0] write_latency,
    input [7:0] stall_level,
    input [31:0] stall_seed,
    input error_enable,
    input [31:0] error_address,

    // While high for one cycle: read load_<index>.bin into the memory, or write dump_<index>.bin.
    input load,
    input dump,
    input [31:0] transfer_index,
    input [31:0] transfer_address,
    input [31:0] transfer_bytes,

    // The first rule of AXI that the master broke; 0 is none. See PROTOCOL_VIOLATIONS in result.py.
    output reg [3:0] violation,

    input [7:0] s_axi_awid,
    input [31:0] s_axi_awaddr,
    input [7:0] s_axi_awlen,
    input [2:0] s_axi_awsize,
    input [1:0] s_axi_awburst,
    input s_axi_awlock,
    input [3:0] s_axi_awcache,
    input [2:0] s_axi_awprot,
    input s_axi_awvalid,
    output reg s_axi_awready,
    input [BUS_BITS-1:0] s_axi_wdata,
    input [BUS_BITS/8-1:0] s_axi_wstrb,
    input s_axi_wlast,
    input s_axi_wvalid,
    output reg s_axi_wready,
    output reg [7:0] s_axi_bid,
    output reg [1:0] s_axi_bresp,
    output reg s_axi_bvalid,
    input s_axi_bready,
    input [7:0] s_axi_arid,
    input [31:0] s_axi_araddr,
    input [7:0] s_axi_arlen,
    input [2:0] s_axi_arsize,
    input [1:0] s_axi_arburst,
    input s_axi_arlock,
    input [3:0] s_axi_arcache,
    input [2:0] s_axi_arprot,
    input s_axi_arvalid,
    output reg s_axi_arready,
    output reg [7:0] s_axi_rid,
    output reg [BUS_BITS-1:0] s_axi_rdata,
    output reg [1:0] s_axi_rresp,
    output reg s_axi_rlast,
    output reg s_axi_rvalid,
    input s_axi_rready
);
    localparam BUS_BYTES = BUS_BITS / 8;
    localparam QUEUE = 64;
    localparam [1:0] OKAY = 0, SLVERR = 2, DECERR = 3;

    reg [7:0] bytes [0:MEMORY_BYTES-1];

    function automatic [31:0] bus_word(input [31:0] address);
        bus_word = address & ~(BUS_BYTES - 1);
    endfunction

    function automatic [1:0] response(input [31:0] address);
        if (bus_word(address) > MEMORY_BYTES - BUS_BYTES) response = DECERR;
        else if (error_enable && bus_word(address) == bus_word(error_address)) response = SLVERR;
        else response = OKAY;
    endfunction

    function automatic crosses_4k(input [31:0] address, input [7:0] len, input [2:0] size);
        crosses_4k = (address & 4095 & ~((1 << size) - 1)) + ((len + 1) << size) > 4096;
    endfunction

    // Files

    string folder;
    integer file, done, position;

    initial if (!$value$plusargs("folder=%s", folder)) folder = ".";

    always @(posedge clk) begin
        if (load) begin
            file = $fopen($sformatf("%s/load_%0d.bin", folder, transfer_index), "rb");
            done = file == 0 ? 0 : $fread(bytes, file, transfer_address, transfer_bytes);
            if (done != transfer_bytes) begin
                $display("load_%0d.bin: %0d bytes instead of %0d", transfer_index, done,
                    transfer_bytes);
                $fatal;
            end
            $fclose(file);
        end
        if (dump) begin
            file = $fopen($sformatf("%s/dump_%0d.bin", folder, transfer_index), "wb");
            for (position = 0; position < transfer_bytes; position = position + 1)
                $fwrite(file, "%c", bytes[transfer_address + position]);
            $fclose(file);
        end
    end

    // Random pauses: xorshift64, one byte for each channel.

    reg [63:0] random;
    wire stall_aw = random[7:0] < stall_level;
    wire stall_w = random[15:8] < stall_level;
    wire stall_b = random[23:16] < stall_level;
    wire stall_ar = random[31:24] < stall_level;
    wire stall_r = random[39:32] < stall_level;

    reg [63:0] step_1, step_2;
    always @* begin
        step_1 = random ^ (random << 13);
        step_2 = step_1 ^ (step_1 >> 7);
    end
    always @(posedge clk)
        if (rst) random <= {stall_seed, ~stall_seed};
        else random <= step_2 ^ (step_2 << 17);

    reg [31:0] cycle;
    always @(posedge clk) cycle <= rst ? 0 : cycle + 1;

    // Reads: a queue of bursts, of which the oldest is being answered.

    reg [31:0] read_address [0:QUEUE-1];
    reg [7:0] read_len [0:QUEUE-1];
    reg [2:0] read_size [0:QUEUE-1];
    reg [7:0] read_id [0:QUEUE-1];
    reg [31:0] read_due [0:QUEUE-1];
    integer read_head, read_count, read_tail, lane;
    reg [31:0] beat_address;
    reg [7:0] beats_left;
    reg within_burst;

    always @(posedge clk) begin
        if (rst) begin
            read_head = 0;
            read_count = 0;
            within_burst = 0;
            s_axi_arready <= 0;
            s_axi_rvalid <= 0;
        end else begin
            if (s_axi_arvalid && s_axi_arready) begin
                read_tail = (read_head + read_count) % QUEUE;
                read_address[read_tail] = s_axi_araddr;
                read_len[read_tail] = s_axi_arlen;
                read_size[read_tail] = s_axi_arsize;
                read_id[read_tail] = s_axi_arid;
                read_due[read_tail] = cycle + {16'b0, latency};
                read_count = read_count + 1;
            end
            if (!s_axi_rvalid || s_axi_rready) begin
                s_axi_rvalid <= 0;
                if (read_count != 0 && !within_burst && read_due[read_head] <= cycle + 1) begin
                    within_burst = 1;
                    beat_address = read_address[read_head];
                    beats_left = read_len[read_head];
                end
                if (within_burst && !stall_r) begin
                    s_axi_rvalid <= 1;
                    s_axi_rid <= read_id[read_head];
                    s_axi_rlast <= beats_left == 0;
                    s_axi_rresp <= response(beat_address);
                    for (lane = 0; lane < BUS_BYTES; lane = lane + 1)
                        s_axi_rdata[8*lane +: 8] <=
                            bytes[(bus_word(beat_address) + lane) % MEMORY_BYTES];
                    beat_address = (beat_address & ~((1 << read_size[read_head]) - 1))
                        + (1 << read_size[read_head]);
                    if (beats_left == 0) begin
                        within_burst = 0;
                        read_head = (read_head + 1) % QUEUE;
                        read_count = read_count - 1;
                    end
                    beats_left = beats_left - 1;
                end
            end
            s_axi_arready <= read_count < QUEUE && !stall_ar;
        end
    end

    // Writes: a queue of bursts whose beats are to come, and one of responses.

    reg [31:0] write_address [0:QUEUE-1];
    reg [7:0] write_len [0:QUEUE-1];
    reg [2:0] write_size [0:QUEUE-1];
    reg [7:0] write_id [0:QUEUE-1];
    reg [1:0] response_code [0:QUEUE-1];
    reg [7:0] response_id [0:QUEUE-1];
    reg [31:0] response_due [0:QUEUE-1];
    integer write_head, write_count, write_tail, response_head, response_count, response_tail;
    integer strobe;
    reg [7:0] beats_done;
    reg [1:0] worst;
    reg last_wrong;

    always @(posedge clk) begin
        if (rst) begin
            write_head = 0;
            write_count = 0;
            response_head = 0;
            response_count = 0;
            beats_done = 0;
            worst = OKAY;
            last_wrong <= 0;
            s_axi_awready <= 0;
            s_axi_wready <= 0;
            s_axi_bvalid <= 0;
        end else begin
            if (s_axi_wvalid && s_axi_wready) begin
                last_wrong <= s_axi_wlast != (beats_done == write_len[write_head]);
                if (response(write_address[write_head]) > worst)
                    worst = response(write_address[write_head]);
                for (strobe = 0; strobe < BUS_BYTES; strobe = strobe + 1)
                    if (s_axi_wstrb[strobe] && worst != DECERR)
                        bytes[bus_word(write_address[write_head]) + strobe] =
                            s_axi_wdata[8*strobe +: 8];
                write_address[write_head] =
                    (write_address[write_head] & ~((1 << write_size[write_head]) - 1))
                    + (1 << write_size[write_head]);
                if (beats_done == write_len[write_head]) begin
                    response_tail = (response_head + response_count) % QUEUE;
                    response_code[response_tail] = worst;
                    response_id[response_tail] = write_id[write_head];
                    response_due[response_tail] = cycle + {16'b0, write_latency};
                    response_count = response_count + 1;
                    write_head = (write_head + 1) % QUEUE;
                    write_count = write_count - 1;
                    beats_done = 0;
                    worst = OKAY;
                end else beats_done = beats_done + 1;
            end
            if (s_axi_awvalid && s_axi_awready) begin
                write_tail = (write_head + write_count) % QUEUE;
                write_address[write_tail] = s_axi_awaddr;
                write_len[write_tail] = s_axi_awlen;
                write_size[write_tail] = s_axi_awsize;
                write_id[write_tail] = s_axi_awid;
                write_count = write_count + 1;
            end
            if (!s_axi_bvalid || s_axi_bready) begin
                s_axi_bvalid <= 0;
                if (response_count != 0 && response_due[response_head] <= cycle + 1 && !stall_b)
                begin
                    s_axi_bvalid <= 1;
                    s_axi_bresp <= response_code[response_head];
                    s_axi_bid <= response_id[response_head];
                    response_head = (response_head + 1) % QUEUE;
                    response_count = response_count - 1;
                end
            end
            s_axi_awready <= write_count < QUEUE && !stall_aw;
            s_axi_wready <= write_count != 0 && response_count < QUEUE && !stall_w;
        end
    end

    // What the master must keep to.

    wire [46:0] aw = {s_axi_awaddr, s_axi_awlen, s_axi_awsize, s_axi_awburst, s_axi_awid[1:0]};
    wire [46:0] ar = {s_axi_araddr, s_axi_arlen, s_axi_arsize, s_axi_arburst, s_axi_arid[1:0]};
    wire [BUS_BITS+BUS_BYTES:0] w = {s_axi_wdata, s_axi_wstrb, s_axi_wlast};
    reg [46:0] aw_before, ar_before;
    reg [BUS_BITS+BUS_BYTES:0] w_before;
    reg aw_waits, ar_waits, w_waits;

    always @(posedge clk) begin
        aw_before <= aw;
        ar_before <= ar;
        w_before <= w;
        aw_waits <= !rst && s_axi_awvalid && !s_axi_awready;
        ar_waits <= !rst && s_axi_arvalid && !s_axi_arready;
        w_waits <= !rst && s_axi_wvalid && !s_axi_wready;
        if (rst) violation <= 0;
        else if (violation == 0) begin
            if (ar_waits && (!s_axi_arvalid || ar != ar_before)) violation <= 1;
            if (aw_waits && (!s_axi_awvalid || aw != aw_before)) violation <= 2;
            if (w_waits && (!s_axi_wvalid || w != w_before)) violation <= 3;
            if (s_axi_arvalid && (s_axi_arburst != 1 || (1 << s_axi_arsize) > BUS_BYTES))
                violation <= 4;
            if (s_axi_awvalid && (s_axi_awburst != 1 || (1 << s_axi_awsize) > BUS_BYTES))
                violation <= 5;
            if (s_axi_arvalid && crosses_4k(s_axi_araddr, s_axi_arlen, s_axi_arsize))
                violation <= 6;
            if (s_axi_awvalid && crosses_4k(s_axi_awaddr, s_axi_awlen, s_axi_awsize))
                violation <= 7;
            if (last_wrong) violation <= 8;
        end
    end
endmodule
