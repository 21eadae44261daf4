// The accelerator, its memory, and what wakes the host: the top module of every co-simulation.
//
// Every port is driven by the host, be it Python (bench.py) or C++ (driver.cpp). m_axi is the
// accelerator's own bus when `external_memory` is set, and left alone otherwise.

/*verilator tracing_off*/
module bench #(
    parameter BUS_BITS = 64,
    parameter WORD_BITS = 128,
    parameter MEMORY_BYTES = 1 << 26,
    parameter TRACE = 0
) (
    input clk,
    input rst,

    input external_memory,
    input [15:0] latency,
    input [15:0] write_latency,
    input [7:0] stall_level,
    input [31:0] stall_seed,
    input error_enable,
    input [31:0] error_address,

    // While high for one cycle: move a file, see memory.v; begin observe_<index>.bin and
    // timeline_<index>.bin, or end them.
    input load,
    input dump,
    input observe_begin,
    input observe_end,
    input [31:0] transfer_index,
    input [31:0] transfer_address,
    input [31:0] transfer_bytes,

    // `wake` rises on the interrupt, or `timeout_cycles` after `watch` rose.
    input watch,
    input [31:0] timeout_cycles,
    output wake,
    output interrupted,
    output [3:0] violation,

    output [0:0] m_axi_awid,
    output [31:0] m_axi_awaddr,
    output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst,
    output m_axi_awlock,
    output [3:0] m_axi_awcache,
    output [2:0] m_axi_awprot,
    output m_axi_awvalid,
    input m_axi_awready,
    output [BUS_BITS-1:0] m_axi_wdata,
    output [BUS_BITS/8-1:0] m_axi_wstrb,
    output m_axi_wlast,
    output m_axi_wvalid,
    input m_axi_wready,
    input [0:0] m_axi_bid,
    input [1:0] m_axi_bresp,
    input m_axi_bvalid,
    output m_axi_bready,
    output [0:0] m_axi_arid,
    output [31:0] m_axi_araddr,
    output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst,
    output m_axi_arlock,
    output [3:0] m_axi_arcache,
    output [2:0] m_axi_arprot,
    output m_axi_arvalid,
    input m_axi_arready,
    input [0:0] m_axi_rid,
    input [BUS_BITS-1:0] m_axi_rdata,
    input [1:0] m_axi_rresp,
    input m_axi_rlast,
    input m_axi_rvalid,
    output m_axi_rready,

    input [7:0] s_axi_awaddr,
    input [2:0] s_axi_awprot,
    input s_axi_awvalid,
    output s_axi_awready,
    input [31:0] s_axi_wdata,
    input [3:0] s_axi_wstrb,
    input s_axi_wvalid,
    output s_axi_wready,
    output [1:0] s_axi_bresp,
    output s_axi_bvalid,
    input s_axi_bready,
    input [7:0] s_axi_araddr,
    input [2:0] s_axi_arprot,
    input s_axi_arvalid,
    output s_axi_arready,
    output [31:0] s_axi_rdata,
    output [1:0] s_axi_rresp,
    output s_axi_rvalid,
    input s_axi_rready
);
    wire awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready, rlast;
    wire [1:0] bresp, rresp;
    wire [7:0] bid, rid;
    wire [BUS_BITS-1:0] rdata;
    wire memory_awready, memory_wready, memory_bvalid, memory_arready, memory_rvalid, memory_rlast;
    wire [1:0] memory_bresp, memory_rresp;
    wire [7:0] memory_bid, memory_rid;
    wire [BUS_BITS-1:0] memory_rdata;

    assign awready = external_memory ? m_axi_awready : memory_awready;
    assign wready = external_memory ? m_axi_wready : memory_wready;
    assign bvalid = external_memory ? m_axi_bvalid : memory_bvalid;
    assign bresp = external_memory ? m_axi_bresp : memory_bresp;
    assign bid = external_memory ? {7'b0, m_axi_bid} : memory_bid;
    assign arready = external_memory ? m_axi_arready : memory_arready;
    assign rvalid = external_memory ? m_axi_rvalid : memory_rvalid;
    assign rdata = external_memory ? m_axi_rdata : memory_rdata;
    assign rresp = external_memory ? m_axi_rresp : memory_rresp;
    assign rlast = external_memory ? m_axi_rlast : memory_rlast;
    assign rid = external_memory ? {7'b0, m_axi_rid} : memory_rid;
    assign m_axi_awvalid = external_memory && awvalid;
    assign m_axi_wvalid = external_memory && wvalid;
    assign m_axi_bready = external_memory && bready;
    assign m_axi_arvalid = external_memory && arvalid;
    assign m_axi_rready = external_memory && rready;

    wire observe_valid;
    wire [7:0] observe_bank;
    wire [15:0] observe_address;
    wire [WORD_BITS-1:0] observe_word;
    wire observe_running;
    wire [2:0] observe_taken, observe_completed, observe_waiting;

    /*verilator tracing_on*/
    coprune_accelerator accelerator (
        .clk(clk), .rst(rst), .interrupt(interrupted),
        .m_axi_awid(m_axi_awid), .m_axi_awaddr(m_axi_awaddr), .m_axi_awlen(m_axi_awlen),
        .m_axi_awsize(m_axi_awsize), .m_axi_awburst(m_axi_awburst), .m_axi_awlock(m_axi_awlock),
        .m_axi_awcache(m_axi_awcache), .m_axi_awprot(m_axi_awprot),
        .m_axi_awvalid(awvalid), .m_axi_awready(awready),
        .m_axi_wdata(m_axi_wdata), .m_axi_wstrb(m_axi_wstrb), .m_axi_wlast(m_axi_wlast),
        .m_axi_wvalid(wvalid), .m_axi_wready(wready),
        .m_axi_bid(bid[0:0]), .m_axi_bresp(bresp), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .m_axi_arid(m_axi_arid), .m_axi_araddr(m_axi_araddr), .m_axi_arlen(m_axi_arlen),
        .m_axi_arsize(m_axi_arsize), .m_axi_arburst(m_axi_arburst), .m_axi_arlock(m_axi_arlock),
        .m_axi_arcache(m_axi_arcache), .m_axi_arprot(m_axi_arprot),
        .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rid(rid[0:0]), .m_axi_rdata(rdata), .m_axi_rresp(rresp), .m_axi_rlast(rlast),
        .m_axi_rvalid(rvalid), .m_axi_rready(rready),
        .s_axi_awaddr(s_axi_awaddr), .s_axi_awprot(s_axi_awprot),
        .s_axi_awvalid(s_axi_awvalid), .s_axi_awready(s_axi_awready),
        .s_axi_wdata(s_axi_wdata), .s_axi_wstrb(s_axi_wstrb),
        .s_axi_wvalid(s_axi_wvalid), .s_axi_wready(s_axi_wready),
        .s_axi_bresp(s_axi_bresp), .s_axi_bvalid(s_axi_bvalid), .s_axi_bready(s_axi_bready),
        .s_axi_araddr(s_axi_araddr), .s_axi_arprot(s_axi_arprot),
        .s_axi_arvalid(s_axi_arvalid), .s_axi_arready(s_axi_arready),
        .s_axi_rdata(s_axi_rdata), .s_axi_rresp(s_axi_rresp),
        .s_axi_rvalid(s_axi_rvalid), .s_axi_rready(s_axi_rready),
        .observe_valid(observe_valid), .observe_bank(observe_bank),
        .observe_address(observe_address), .observe_word(observe_word),
        .observe_running(observe_running), .observe_taken(observe_taken),
        .observe_completed(observe_completed), .observe_waiting(observe_waiting)
    );
    /*verilator tracing_off*/

    memory #(.BUS_BITS(BUS_BITS), .MEMORY_BYTES(MEMORY_BYTES)) memory (
        .clk(clk), .rst(rst), .latency(latency), .write_latency(write_latency),
        .stall_level(stall_level), .stall_seed(stall_seed),
        .error_enable(error_enable), .error_address(error_address),
        .load(load), .dump(dump), .transfer_index(transfer_index),
        .transfer_address(transfer_address), .transfer_bytes(transfer_bytes),
        .violation(violation),
        .s_axi_awid({7'b0, m_axi_awid}), .s_axi_awaddr(m_axi_awaddr), .s_axi_awlen(m_axi_awlen),
        .s_axi_awsize(m_axi_awsize), .s_axi_awburst(m_axi_awburst), .s_axi_awlock(m_axi_awlock),
        .s_axi_awcache(m_axi_awcache), .s_axi_awprot(m_axi_awprot),
        .s_axi_awvalid(awvalid && !external_memory), .s_axi_awready(memory_awready),
        .s_axi_wdata(m_axi_wdata), .s_axi_wstrb(m_axi_wstrb), .s_axi_wlast(m_axi_wlast),
        .s_axi_wvalid(wvalid && !external_memory), .s_axi_wready(memory_wready),
        .s_axi_bid(memory_bid), .s_axi_bresp(memory_bresp), .s_axi_bvalid(memory_bvalid),
        .s_axi_bready(bready),
        .s_axi_arid({7'b0, m_axi_arid}), .s_axi_araddr(m_axi_araddr), .s_axi_arlen(m_axi_arlen),
        .s_axi_arsize(m_axi_arsize), .s_axi_arburst(m_axi_arburst), .s_axi_arlock(m_axi_arlock),
        .s_axi_arcache(m_axi_arcache), .s_axi_arprot(m_axi_arprot),
        .s_axi_arvalid(arvalid && !external_memory), .s_axi_arready(memory_arready),
        .s_axi_rid(memory_rid), .s_axi_rdata(memory_rdata), .s_axi_rresp(memory_rresp),
        .s_axi_rlast(memory_rlast), .s_axi_rvalid(memory_rvalid), .s_axi_rready(rready)
    );

    reg [31:0] watched_cycles;
    always @(posedge clk)
        if (!watch) watched_cycles <= 0;
        else if (watched_cycles != timeout_cycles) watched_cycles <= watched_cycles + 1;
    assign wake = watch && (interrupted || watched_cycles == timeout_cycles);

    // observe_<index>.bin: (4 + WORD_BITS / 8) bytes for each word: bank, 0, address, word.
    // timeline_<index>.bin: 8 bytes for each cycle in which a unit takes or completes an
    // instruction, or begins or ends to wait: the cycle as the counter `cycles` has it, then a bit
    // for each unit that takes, completes, waits. Both little-endian.

    string folder;
    integer file, timeline;
    initial begin
        file = 0;
        timeline = 0;
        if (!$value$plusargs("folder=%s", folder)) folder = ".";
    end
    wire [WORD_BITS+31:0] observed = {observe_word, observe_address, 8'b0, observe_bank};
    reg [31:0] cycle;
    reg [2:0] waited;
    wire [8:0] events = {observe_waiting, observe_completed, observe_taken};

    always @(posedge clk) begin
        if (observe_begin) begin
            file = $fopen($sformatf("%s/observe_%0d.bin", folder, transfer_index), "wb");
            timeline = $fopen($sformatf("%s/timeline_%0d.bin", folder, transfer_index), "wb");
        end
        if (observe_valid && file != 0) $fwrite(file, "%u", observed);
        if (observe_running && timeline != 0 && events != {waited, 6'b0})
            $fwrite(timeline, "%u", {23'b0, events, cycle});
        cycle <= observe_begin ? 0 : cycle + {31'b0, observe_running};
        waited <= observe_begin ? 0 : observe_waiting;
        if (observe_end && file != 0) begin
            $fclose(file);
            $fclose(timeline);
            file = 0;
            timeline = 0;
        end
    end

    // With TRACE: trace.vcd, of the cycles trace_begin .. trace_end - 1 of the first image.

    generate
        if (TRACE != 0) begin : tracing
            reg [31:0] trace_begin, trace_end;
            initial begin
                if (!$value$plusargs("trace_begin=%d", trace_begin)) trace_begin = 0;
                if (!$value$plusargs("trace_end=%d", trace_end)) trace_end = 32'hffff_ffff;
            end
            reg first_image;
            always @(posedge clk) if (observe_begin) first_image <= transfer_index == 0;
            wire in_window = first_image && observe_running && cycle >= trace_begin
                && cycle < trace_end;
            always @(posedge in_window) begin
                $dumpfile($sformatf("%s/trace.vcd", folder));
                $dumpvars;
            end
            // A $dumpoff is ignored by Verilator.
            always @(negedge in_window) $c("vlSymsp->_traceDumpClose();");
        end
    endgenerate
endmodule
