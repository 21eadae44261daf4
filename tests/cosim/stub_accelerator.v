// A machine that fails on purpose: its registers read as 0, and after `start` it
//   program_bytes 4096: hangs
//   else:               reads across a 4 KiB boundary and raises the interrupt

module coprune_accelerator #(parameter BUS_BITS = 64, parameter WORD_BITS = 128) (
    input clk, input rst, output reg interrupt,
    output [0:0] m_axi_awid, output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize, output [1:0] m_axi_awburst, output m_axi_awlock,
    output [3:0] m_axi_awcache, output [2:0] m_axi_awprot, output m_axi_awvalid,
    input m_axi_awready,
    output [BUS_BITS-1:0] m_axi_wdata, output [BUS_BITS/8-1:0] m_axi_wstrb, output m_axi_wlast,
    output m_axi_wvalid, input m_axi_wready,
    input [0:0] m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output [0:0] m_axi_arid, output [31:0] m_axi_araddr, output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize, output [1:0] m_axi_arburst, output m_axi_arlock,
    output [3:0] m_axi_arcache, output [2:0] m_axi_arprot, output reg m_axi_arvalid,
    input m_axi_arready,
    input [0:0] m_axi_rid, input [BUS_BITS-1:0] m_axi_rdata, input [1:0] m_axi_rresp,
    input m_axi_rlast, input m_axi_rvalid, output m_axi_rready,
    input [7:0] s_axi_awaddr, input [2:0] s_axi_awprot, input s_axi_awvalid,
    output s_axi_awready,
    input [31:0] s_axi_wdata, input [3:0] s_axi_wstrb, input s_axi_wvalid, output s_axi_wready,
    output [1:0] s_axi_bresp, output reg s_axi_bvalid, input s_axi_bready,
    input [7:0] s_axi_araddr, input [2:0] s_axi_arprot, input s_axi_arvalid,
    output s_axi_arready,
    output [31:0] s_axi_rdata, output [1:0] s_axi_rresp, output reg s_axi_rvalid,
    input s_axi_rready,
    output observe_valid, output [3:0] observe_bank, output [15:0] observe_address,
    output [WORD_BITS-1:0] observe_word,
    output observe_running, output [2:0] observe_taken, output [2:0] observe_completed,
    output [2:0] observe_waiting
);
    reg [31:0] program_bytes;
    wire write = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_awready = write;
    assign s_axi_wready = write;
    assign s_axi_arready = !s_axi_rvalid;
    assign m_axi_araddr = 4088;
    assign m_axi_arlen = 1;
    assign m_axi_arsize = 3;
    assign m_axi_arburst = 1;
    assign m_axi_rready = 1;

    always @(posedge clk) begin
        if (s_axi_bready) s_axi_bvalid <= 0;
        if (s_axi_rready) s_axi_rvalid <= 0;
        if (s_axi_arvalid && s_axi_arready) s_axi_rvalid <= 1;
        if (m_axi_arready) m_axi_arvalid <= 0;
        if (m_axi_rvalid && m_axi_rlast) interrupt <= 1;
        if (write) begin
            s_axi_bvalid <= 1;
            if (s_axi_awaddr == `PROGRAM_BYTES) program_bytes <= s_axi_wdata;
            if (s_axi_awaddr == `CONTROL && s_axi_wdata[0] && program_bytes != 4096)
                m_axi_arvalid <= 1;
        end
        if (rst) begin
            interrupt <= 0;
            m_axi_arvalid <= 0;
            s_axi_bvalid <= 0;
            s_axi_rvalid <= 0;
        end
    end
endmodule
