// An SDRAM chip and its controller in place of the memory of memory.v, for simulation.
//
// `sdram_controller` and `sdram_chip` are written by sdram.py. Inputs that only an ideal memory can
// follow (latency, stall_level, error_address and so on) have no effect.

module memory #(
    parameter BUS_BITS = 64,
    parameter MEMORY_BYTES = 0
) (
    input clk,
    input rst,

    input [15:0] latency,
    input [15:0] write_latency,
    input [7:0] stall_level,
    input [31:0] stall_seed,
    input error_enable,
    input [31:0] error_address,

    // While high for one cycle: read load_<index>.bin into the chip, or write dump_<index>.bin.
    input load,
    input dump,
    input [31:0] transfer_index,
    input [31:0] transfer_address,
    input [31:0] transfer_bytes,

    output [3:0] violation,
    output [31:0] broken,

    input [7:0] s_axi_awid,
    input [31:0] s_axi_awaddr,
    input [7:0] s_axi_awlen,
    input [2:0] s_axi_awsize,
    input [1:0] s_axi_awburst,
    input s_axi_awlock,
    input [3:0] s_axi_awcache,
    input [2:0] s_axi_awprot,
    input s_axi_awvalid,
    output s_axi_awready,
    input [BUS_BITS-1:0] s_axi_wdata,
    input [BUS_BITS/8-1:0] s_axi_wstrb,
    input s_axi_wlast,
    input s_axi_wvalid,
    output s_axi_wready,
    output [7:0] s_axi_bid,
    output [1:0] s_axi_bresp,
    output s_axi_bvalid,
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
    output s_axi_arready,
    output [7:0] s_axi_rid,
    output [BUS_BITS-1:0] s_axi_rdata,
    output [1:0] s_axi_rresp,
    output s_axi_rlast,
    output s_axi_rvalid,
    input s_axi_rready
);
    assign violation = 0;
    assign s_axi_bid = 0;
    assign s_axi_rid = 0;

    wire clock_enable, cs_n, ras_n, cas_n, we_n, dq_oe;
    wire [1:0] ba;
    wire [`SDRAM_ADDRESS_BITS-1:0] a;
    wire [`SDRAM_DATA_BITS/8-1:0] dqm;
    wire [`SDRAM_DATA_BITS-1:0] dq_o, dq_i;

    sdram_controller controller (
        .clk(clk), .rst(rst),
        .bus__read__read_address__payload({s_axi_arlen, s_axi_araddr}),
        .bus__read__read_address__valid(s_axi_arvalid),
        .bus__read__read_address__ready(s_axi_arready),
        .bus__read__read_data__payload({s_axi_rlast, s_axi_rresp, s_axi_rdata}),
        .bus__read__read_data__valid(s_axi_rvalid), .bus__read__read_data__ready(s_axi_rready),
        .bus__write__write_address__payload({s_axi_awlen, s_axi_awaddr}),
        .bus__write__write_address__valid(s_axi_awvalid),
        .bus__write__write_address__ready(s_axi_awready),
        .bus__write__write_data__payload({s_axi_wlast, s_axi_wstrb, s_axi_wdata}),
        .bus__write__write_data__valid(s_axi_wvalid), .bus__write__write_data__ready(s_axi_wready),
        .bus__write__write_response__payload(s_axi_bresp),
        .bus__write__write_response__valid(s_axi_bvalid),
        .bus__write__write_response__ready(s_axi_bready),
        .pins__clock_enable(clock_enable), .pins__cs_n(cs_n), .pins__ras_n(ras_n),
        .pins__cas_n(cas_n), .pins__we_n(we_n), .pins__ba(ba), .pins__a(a), .pins__dqm(dqm),
        .pins__dq_o(dq_o), .pins__dq_oe(dq_oe), .pins__dq_i(dq_i)
    );

    sdram_chip chip (
        .clk(clk), .clock_enable(clock_enable), .cs_n(cs_n), .ras_n(ras_n), .cas_n(cas_n),
        .we_n(we_n), .ba(ba), .a(a), .dqm(dqm), .dq_o(dq_o), .dq_oe(dq_oe), .dq_i(dq_i),
        .broken(broken)
    );

    // Files. The chip's words lie in the order of the bytes that they hold.

    localparam WORD_BYTES = `SDRAM_DATA_BITS / 8;
    string folder;
    integer file, position, byte_read;
    initial if (!$value$plusargs("folder=%s", folder)) folder = ".";

    always @(posedge clk) begin
        if (load) begin
            file = $fopen($sformatf("%s/load_%0d.bin", folder, transfer_index), "rb");
            for (position = transfer_address; position < transfer_address + transfer_bytes;
                position = position + 1) begin
                byte_read = file == 0 ? -1 : $fgetc(file);
                if (byte_read < 0) begin
                    $display("load_%0d.bin: fewer than %0d bytes", transfer_index,
                        transfer_bytes);
                    $fatal;
                end
                chip.model.cells[position / WORD_BYTES][8 * (position % WORD_BYTES) +: 8] =
                    byte_read[7:0];
            end
            $fclose(file);
        end
        if (dump) begin
            file = $fopen($sformatf("%s/dump_%0d.bin", folder, transfer_index), "wb");
            for (position = transfer_address; position < transfer_address + transfer_bytes;
                position = position + 1)
                $fwrite(file, "%c",
                    chip.model.cells[position / WORD_BYTES][8 * (position % WORD_BYTES) +: 8]);
            $fclose(file);
        end
    end
endmodule
