# Builds coprune.bit and coprune.hwh from the IP core beside this script:
#     vivado -mode batch -source build.tcl

set folder [file dirname [file normalize [info script]]]
source [file join $folder settings.tcl]

# Board files of any version; without them DDR and MIO have no settings.
proc find_board {name} {
    set found [lsort -dictionary [get_board_parts -quiet "$name:*"]]
    if {[llength $found] == 0} {
        error "Vivado has no board files of $name: install them from the board store"
    }
    return [lindex $found end]
}

proc add_cell {type name args} {
    set cell [create_bd_cell -type ip -vlnv $type $name]
    if {[llength $args] > 0} {
        set_property -dict $args $cell
    }
    return $cell
}

# The first pin drives the others.
proc connect {source args} {
    foreach target $args {
        connect_bd_net [get_bd_pins $source] [get_bd_pins $target]
    }
}

proc connect_bus {master slave} {
    connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $slave]
}

proc run_to_the_end {run args} {
    launch_runs $run {*}$args -jobs 4
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "$run failed: [get_property STATUS [get_runs $run]]"
    }
}

proc copy_result {pattern name} {
    global folder
    set found [glob -nocomplain -directory [file join $folder build] $pattern]
    if {[llength $found] != 1} {
        error "expected one file build/$pattern, not [llength $found]"
    }
    file copy -force [lindex $found 0] [file join $folder $name]
}

create_project coprune [file join $folder build] -part $part -force
set_property board_part [find_board $board_part] [current_project]
set_property ip_repo_paths [file join $folder ip] [current_project]
update_ip_catalog

create_bd_design coprune
set system [add_cell xilinx.com:ip:processing_system7:5.5 system]
apply_bd_automation -rule xilinx.com:bd_rule:processing_system7 \
    -config {make_external "FIXED_IO, DDR" apply_board_preset 1 Master Disable Slave Disable} \
    $system
set_property -dict [list \
    CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $mhz \
    CONFIG.PCW_USE_M_AXI_GP0 1 \
    CONFIG.PCW_USE_S_AXI_HP0 1 \
    CONFIG.PCW_S_AXI_HP0_DATA_WIDTH $port_bits \
    CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \
    CONFIG.PCW_IRQ_F2P_INTR 1] $system
add_cell $accelerator accelerator
add_cell xilinx.com:ip:proc_sys_reset:5.0 reset
# AXI4 to AXI3 towards the memory, AXI3 to AXI4-Lite towards the registers.
add_cell xilinx.com:ip:smartconnect:1.0 memory_bus CONFIG.NUM_SI 1 CONFIG.NUM_MI 1
add_cell xilinx.com:ip:smartconnect:1.0 register_bus CONFIG.NUM_SI 1 CONFIG.NUM_MI 1

connect_bus accelerator/m_axi memory_bus/S00_AXI
connect_bus memory_bus/M00_AXI system/S_AXI_HP0
connect_bus system/M_AXI_GP0 register_bus/S00_AXI
connect_bus register_bus/M00_AXI accelerator/s_axi
connect accelerator/interrupt system/IRQ_F2P
connect system/FCLK_CLK0 \
    system/M_AXI_GP0_ACLK system/S_AXI_HP0_ACLK accelerator/clk \
    memory_bus/aclk register_bus/aclk reset/slowest_sync_clk
connect system/FCLK_RESET0_N reset/ext_reset_in
connect reset/peripheral_aresetn memory_bus/aresetn register_bus/aresetn
connect reset/peripheral_reset accelerator/rst

assign_bd_address -offset $registers_address -range $registers_bytes \
    -target_address_space [get_bd_addr_spaces system/Data] \
    [get_bd_addr_segs accelerator/s_axi/registers]
assign_bd_address -offset 0x00000000 -range $memory_bytes \
    -target_address_space [get_bd_addr_spaces accelerator/m_axi] \
    [get_bd_addr_segs system/S_AXI_HP0/HP0_DDR_LOWOCM]
validate_bd_design
save_bd_design

set design [get_files coprune.bd]
generate_target all $design
add_files -norecurse [make_wrapper -files $design -top]
set_property top coprune_wrapper [current_fileset]
update_compile_order -fileset sources_1

run_to_the_end synth_1
run_to_the_end impl_1 -to_step write_bitstream
open_run impl_1
report_utilization -hierarchical -file [file join $folder utilization.txt]
report_timing_summary -file [file join $folder timing.txt]
set slack [get_property STATS.WNS [get_runs impl_1]]
if {$slack < 0} {
    error "timing is not met at $mhz MHz: worst slack $slack ns (timing.txt); slow the clock"
}

# PYNQ takes a pair of files that differ only in their ending.
copy_result coprune.runs/impl_1/coprune_wrapper.bit coprune.bit
# In coprune.srcs before Vivado 2020.2, in coprune.gen since.
set handoff coprune.{gen,srcs}/sources_1/bd/coprune/hw_handoff
copy_result $handoff/coprune.hwh coprune.hwh
puts "coprune.bit and coprune.hwh: $mhz MHz, worst slack $slack ns"
