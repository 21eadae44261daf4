// An SDRAM chip that checks how it is used, for simulation.
//
// Pins are sampled at the rising edge of `clk`; words that are read leave at the edge before the one
// that they are to be sampled at. Times are those of a data sheet, in ps, and are compared with the
// edges that have passed: nothing here is shared with the controller. A plusarg +sdram_<name>_ps
// (rcd, rp, ras, rc, rrd, rfc, wr, refresh, power_up) replaces one of them.
//
// Each rule has a bit in `broken`, see the parameters below. The first few violations are displayed;
// one ends the simulation unless +sdram_tolerant is given.

module sdram_model #(
    parameter DATA_BITS = 16,
    parameter BANK_BITS = 2,
    parameter ROW_BITS = 13,
    parameter COLUMN_BITS = 9,
    parameter ADDRESS_BITS = 13,
    parameter CLOCK_PS = 10000,
    parameter CLOCK_CL2_PS = 10000,
    parameter CLOCK_CL3_PS = 7000,
    parameter RCD_PS = 20000,
    parameter RP_PS = 20000,
    parameter RAS_PS = 45000,
    parameter RC_PS = 67500,
    parameter RRD_PS = 14000,
    parameter RFC_PS = 67500,
    parameter WR_PS = 14000,
    parameter REFRESH_PS = 7812500,
    parameter POWER_UP_PS = 200000000
) (
    input clk,
    input clock_enable,
    input cs_n,
    input ras_n,
    input cas_n,
    input we_n,
    input [BANK_BITS-1:0] ba,
    input [ADDRESS_BITS-1:0] a,
    input [DATA_BITS/8-1:0] dqm,
    input [DATA_BITS-1:0] dq_o,
    input dq_oe,
    output reg [DATA_BITS-1:0] dq_i,

    // The rules that were broken since `forget` was high.
    input forget,
    output reg [31:0] broken
);
    localparam BANKS = 1 << BANK_BITS;
    localparam WORDS = 1 << (BANK_BITS + ROW_BITS + COLUMN_BITS);
    localparam MODE_CYCLES = 2, WRITE_CYCLES = 2;
    localparam INITIAL_REFRESHES = 8;
    localparam SHOWN = 10;

    // Rules
    localparam POWER_UP = 0;         // a command too soon after power-up
    localparam INITIALIZATION = 1;   // an access before precharge, refreshes and mode register
    localparam ROW_OPEN = 2;         // a bank activated, refreshed or set up while a row is open
    localparam ROW_CLOSED = 3;       // a column of a bank without an open row
    localparam RCD = 4;
    localparam RP = 5;
    localparam RAS = 6;
    localparam RC = 7;
    localparam RRD = 8;
    localparam RFC = 9;
    localparam WR = 10;
    localparam MRD = 11;
    localparam BURST = 12;           // a burst cut short by another or by a precharge
    localparam REFRESH = 13;         // refreshes fall behind by more than one
    localparam CONTENTION = 14;      // both sides drive the data pins, or without a cycle between
    localparam UNDRIVEN = 15;        // a word to be written is not driven
    localparam MODE = 16;            // a mode that is not supported, or not at this clock
    localparam CLOCK_ENABLE = 17;    // low after power-up

    reg [DATA_BITS-1:0] cells [0:WORDS-1];

    integer t_rcd, t_rp, t_ras, t_rc, t_rrd, t_rfc, t_wr, t_refresh, t_power_up;
    reg tolerant;
    initial begin
        if (!$value$plusargs("sdram_rcd_ps=%d", t_rcd)) t_rcd = RCD_PS;
        if (!$value$plusargs("sdram_rp_ps=%d", t_rp)) t_rp = RP_PS;
        if (!$value$plusargs("sdram_ras_ps=%d", t_ras)) t_ras = RAS_PS;
        if (!$value$plusargs("sdram_rc_ps=%d", t_rc)) t_rc = RC_PS;
        if (!$value$plusargs("sdram_rrd_ps=%d", t_rrd)) t_rrd = RRD_PS;
        if (!$value$plusargs("sdram_rfc_ps=%d", t_rfc)) t_rfc = RFC_PS;
        if (!$value$plusargs("sdram_wr_ps=%d", t_wr)) t_wr = WR_PS;
        if (!$value$plusargs("sdram_refresh_ps=%d", t_refresh)) t_refresh = REFRESH_PS;
        if (!$value$plusargs("sdram_power_up_ps=%d", t_power_up)) t_power_up = POWER_UP_PS;
        tolerant = $test$plusargs("sdram_tolerant") != 0;
    end

    // Edges of the clock: now, and when things were last done. Long ago at power-up.

    longint now;
    longint activated [0:BANKS-1], precharged [0:BANKS-1], written [0:BANKS-1];
    longint any_activated, refreshed, mode_set, column_at, drive_until;
    reg is_open [0:BANKS-1];
    reg [ROW_BITS-1:0] open_row [0:BANKS-1];
    integer bank, refreshes, shown;
    reg all_precharged, mode_known;

    // The burst under way
    reg active, writing;
    reg [BANK_BITS-1:0] burst_bank;
    reg [COLUMN_BITS-1:0] burst_column;
    integer burst_word, burst_length, cas_latency;

    // Words on the way out
    reg [DATA_BITS-1:0] pipe [0:3];
    reg [3:0] pipe_valid;
    reg drives, drove;
    reg [DATA_BITS/8-1:0] dqm_before;

    longint refresh_credit;
    integer refresh_debt, lane;
    integer word;

    initial begin
        now = 0;
        for (bank = 0; bank < BANKS; bank = bank + 1) begin
            activated[bank] = -1000;
            precharged[bank] = -1000;
            written[bank] = -1000;
            is_open[bank] = 0;
        end
        any_activated = -1000;
        refreshed = -1000;
        mode_set = -1000;
        column_at = -1000;
        refreshes = 0;
        shown = 0;
        all_precharged = 0;
        mode_known = 0;
        active = 0;
        burst_length = 1;
        cas_latency = 2;
        pipe_valid = 0;
        drives = 0;
        drove = 0;
        refresh_credit = 0;
        refresh_debt = 0;
        broken = 0;
    end

    task violate(input integer rule, input string what);
        begin
            broken[rule] = 1;
            if (shown < SHOWN) $display("SDRAM violation at edge %0d: %s", now, what);
            shown = shown + 1;
            if (!tolerant) $fatal;
        end
    endtask

    function automatic too_soon(input longint since, input integer time_ps);
        too_soon = (now - since) * CLOCK_PS < time_ps;
    endfunction

    task check_idle(input string what);
        for (bank = 0; bank < BANKS; bank = bank + 1) begin
            if (is_open[bank]) violate(ROW_OPEN, {what, " while a row is open"});
            if (too_soon(precharged[bank], t_rp)) violate(RP, {what, " within tRP"});
        end
    endtask

    task close(input integer which);
        begin
            if (is_open[which]) begin
                if (too_soon(activated[which], t_ras)) violate(RAS, "precharge within tRAS");
                if (too_soon(written[which], t_wr) || now - written[which] < WRITE_CYCLES)
                    violate(WR, "precharge within tWR");
                if (burst_bank == which && now < column_at + burst_length
                    + (writing ? 0 : cas_latency - 2))
                    violate(BURST, "precharge cuts a burst short");
            end
            is_open[which] = 0;
            precharged[which] = now;
        end
    endtask

    task check_ready(input string what);
        begin
            if (now * CLOCK_PS < t_power_up) violate(POWER_UP, {what, " too soon after power-up"});
            if (too_soon(refreshed, t_rfc)) violate(RFC, {what, " within tRFC"});
            if (now - mode_set < MODE_CYCLES) violate(MRD, {what, " within tMRD"});
        end
    endtask

    always @(posedge clk) begin
        now = now + 1;
        if (forget) broken = 0;
        if (dq_oe && drives) violate(CONTENTION, "both sides drive the data pins");
        else if (dq_oe && drove) violate(CONTENTION, "data pins driven while the chip lets go");
        if (!clock_enable) violate(CLOCK_ENABLE, "clock enable is low");

        if (!cs_n) case ({ras_n, cas_n, we_n})
            3'b111: ;
            3'b011: begin
                check_ready("activate");
                if (!mode_known || refreshes < INITIAL_REFRESHES)
                    violate(INITIALIZATION, "activate before initialization");
                if (is_open[ba]) violate(ROW_OPEN, "activate while a row is open");
                if (too_soon(precharged[ba], t_rp)) violate(RP, "activate within tRP");
                if (too_soon(activated[ba], t_rc)) violate(RC, "activate within tRC");
                if (too_soon(any_activated, t_rrd)) violate(RRD, "activate within tRRD");
                is_open[ba] = 1;
                open_row[ba] = a[ROW_BITS-1:0];
                activated[ba] = now;
                any_activated = now;
            end
            3'b101, 3'b100: begin
                check_ready("column");
                if (!is_open[ba]) violate(ROW_CLOSED, "column of a closed row");
                if (too_soon(activated[ba], t_rcd)) violate(RCD, "column within tRCD");
                if (now - column_at < burst_length) violate(BURST, "a column cuts a burst short");
                if (a[10]) violate(MODE, "automatic precharge is not supported");
                active = 1;
                writing = !we_n;
                burst_bank = ba;
                burst_column = a[COLUMN_BITS-1:0];
                burst_word = 0;
                column_at = now;
            end
            3'b010: begin
                check_ready("precharge");
                if (a[10]) begin
                    for (bank = 0; bank < BANKS; bank = bank + 1) close(bank);
                    all_precharged = 1;
                end else close(ba);
            end
            3'b001: begin
                check_ready("refresh");
                check_idle("refresh");
                if (!all_precharged) violate(INITIALIZATION, "refresh before precharge");
                refreshed = now;
                refreshes = refreshes + 1;
                refresh_debt = refresh_debt - 1;
            end
            3'b000: begin
                check_ready("mode register");
                check_idle("mode register");
                if (!all_precharged) violate(INITIALIZATION, "mode register before precharge");
                mode_set = now;
                mode_known = 1;
                refresh_debt = 0;
                cas_latency = {29'b0, a[6:4]};
                burst_length = 1 << a[2:0];
                if (a[2:0] > 3 || a[3] || a[ADDRESS_BITS-1:7] != 0 || ba != 0)
                    violate(MODE, "mode is not supported");
                if (!(cas_latency == 2 && CLOCK_PS >= CLOCK_CL2_PS)
                    && !(cas_latency == 3 && CLOCK_PS >= CLOCK_CL3_PS))
                    violate(MODE, "CAS latency is not for this clock");
            end
            default: violate(MODE, "burst stop is not supported");
        endcase

        if (mode_known) begin
            refresh_credit = refresh_credit + CLOCK_PS;
            if (refresh_credit >= {32'b0, t_refresh}) begin
                refresh_credit = refresh_credit - {32'b0, t_refresh};
                refresh_debt = refresh_debt + 1;
            end
            if (refresh_debt > 1) begin
                violate(REFRESH, "refreshes fall behind");
                refresh_debt = 0;
            end
        end

        // Words: a burst counts through the low bits of its column.
        drove = drives;
        pipe_valid = pipe_valid << 1;
        pipe[3] = pipe[2];
        pipe[2] = pipe[1];
        pipe[1] = pipe[0];
        if (active) begin
            word = {{(32 - BANK_BITS - ROW_BITS - COLUMN_BITS){1'b0}}, open_row[burst_bank],
                burst_bank, burst_column};
            word = (word & ~(burst_length - 1))
                | ((word + burst_word) & (burst_length - 1));
            if (writing) begin
                if (!dq_oe && !(&dqm)) violate(UNDRIVEN, "a word to be written is not driven");
                for (lane = 0; lane < DATA_BITS / 8; lane = lane + 1)
                    if (!dqm[lane]) cells[word][8*lane +: 8] = dq_o[8*lane +: 8];
                written[burst_bank] = now;
            end else begin
                pipe[0] = cells[word];
                pipe_valid[0] = 1;
            end
            burst_word = burst_word + 1;
            if (burst_word == burst_length) active = 0;
        end
        // A word leaves masked where dqm was high two edges before the one that samples it.
        drives = pipe_valid[cas_latency - 1];
        for (lane = 0; lane < DATA_BITS / 8; lane = lane + 1)
            dq_i[8*lane +: 8] <= drives && !dqm_before[lane]
                ? pipe[cas_latency - 1][8*lane +: 8] : ~now[7:0];
        dqm_before = dqm;
    end
endmodule
