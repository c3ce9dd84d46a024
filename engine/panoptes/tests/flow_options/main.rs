//! Each option and each signal of argus(8), compared with real argus where that can be.
//!
//! Both sensors run with the same option over the same packets, and `ra` reads the records of both.
//! Live tests have network namespaces of their own, so only root runs them; for others they pass
//! with a message.
#![allow(clippy::print_stderr, reason = "it prints what it leaves out")]

mod applications;
mod captures;
mod clients;
mod columns;
mod database;
mod debian;
mod doctor;
mod drop_in;
mod examples;
mod exports;
mod followed;
mod interfaces;
mod live;
mod mistakes;
mod network;
mod outputs;
mod ports;
mod process;
mod programs;
mod records;
mod run;
mod service;
mod stream;
mod systems;
mod threads;
mod times;
mod xdp;

#[path = "../recorded/mod.rs"]
mod recorded;

use std::collections::BTreeSet;
use std::process::Command;

use panoptes_bounded as bounded;
use programs::{Sensor, run};

/// Each option and each signal, and a test of it. There may be more.
const TESTS: &[(&str, &str)] = &[
    ("-A", "records::option_a_upper_adds_application_bytes"),
    ("-b", "captures::option_b_prints_the_program_of_the_filter"),
    ("-B", "clients::option_b_upper_limits_where_clients_connect"),
    ("-c", "process::option_c_makes_a_folder_the_root"),
    ("-C", "records::option_c_upper_adds_all_data_of_the_control_plane"),
    ("-d", "process::option_d_runs_in_the_background"),
    ("-D", "process::option_d_upper_and_signals_change_the_debug_level"),
    ("-e", "records::option_e_identifies_the_sensor"),
    ("-e, 16 bytes", "records::option_e_has_room_for_16_bytes"),
    ("-f", "captures::option_f_waits_for_more"),
    ("-f, a file that is rotated", "followed::option_f_follows_a_file_that_is_moved_or_emptied"),
    ("-f, a server", "followed::option_f_connects_again_to_a_server"),
    ("-F", "process::option_f_upper_reads_a_configuration"),
    ("-g", "process::option_g_changes_the_group"),
    ("-h", "process::option_h_lists_the_options"),
    ("-i", "interfaces::option_i_names_an_interface"),
    ("-i NAME/ID", "interfaces::option_i_gives_records_an_id"),
    ("-i, several names", "interfaces::option_i_joins_several_names"),
    ("-i, repeated", "interfaces::option_i_may_be_repeated"),
    ("-i ind:", "interfaces::option_i_audits_interfaces_one_by_one"),
    ("-i dup:", "interfaces::option_i_joins_two_directions"),
    ("-i bond:", "interfaces::option_i_joins_parts_of_a_link"),
    ("-i dup:[bond:]", "interfaces::option_i_joins_groups"),
    ("-i all", "interfaces::option_i_audits_all_interfaces_one_by_one"),
    ("-i xdp:", "xdp::option_i_takes_packets_by_xdp"),
    ("-i udp:", "ports::option_i_takes_mirrored_packets_from_a_port"),
    ("-i any", "interfaces::option_i_audits_any_interface"),
    ("-J", "records::option_j_upper_adds_times_between_packets"),
    ("-m", "records::option_m_adds_hardware_addresses"),
    ("-M", "interfaces::option_m_upper_reports_the_state_at_intervals"),
    ("-N", "captures::option_n_upper_takes_the_first_packets"),
    ("-N FIRST-LAST", "captures::option_n_upper_takes_a_range"),
    ("-O", "captures::option_o_upper_leaves_the_program_unoptimised"),
    ("-p", "interfaces::option_p_leaves_an_interface_as_it_is"),
    ("-P", "clients::option_p_upper_serves_clients"),
    ("-r", "captures::option_r_reads_many_captures_in_the_order_of_their_names"),
    ("-r -", "captures::option_r_reads_standard_input"),
    ("-r FOLDER", "followed::option_r_reads_a_folder_once_without_option_f"),
    ("-r FOLDER -f", "followed::option_r_follows_the_captures_of_a_folder"),
    ("-r tcp:", "followed::option_r_reads_what_a_server_sends"),
    ("-r cisco:", "exports::option_r_reads_exported_flows"),
    ("-R", "records::option_r_upper_alone_changes_nothing"),
    ("-R FOLDER", "captures::option_r_upper_reads_the_captures_of_a_folder"),
    ("-s", "interfaces::option_s_cuts_packets"),
    ("-S", "records::option_s_upper_reports_flows_at_intervals"),
    ("-t", "captures::option_t_reads_tsh"),
    ("-T", "captures::option_t_upper_plays_in_real_time"),
    ("-u", "process::option_u_changes_the_user"),
    ("-U", "records::option_u_upper_adds_data"),
    ("-w", "outputs::option_w_appends_to_a_file"),
    ("-w, repeated", "outputs::option_w_may_be_repeated_with_filters"),
    ("-w -", "outputs::option_w_writes_to_standard_output"),
    ("-w argus-udp://", "clients::option_w_sends_datagrams"),
    ("-w argus-udp://, a group", "clients::option_w_sends_datagrams_to_a_group"),
    ("-Z, deviation", "records::option_z_upper_adds_the_deviation_of_sizes"),
    ("-w parquet:", "columns::option_w_writes_columns"),
    ("-X", "process::option_x_upper_forgets_the_options_before_it"),
    ("-Z", "records::option_z_upper_adds_sizes_of_packets"),
    ("--allow", "clients::option_allow_refuses_other_networks"),
    ("--system", "mistakes::a_system_is_refused_by_one_line"),
    ("--alerts", "mistakes::each_mistake_has_one_line_and_the_exit_code_2"),
    ("--config", "mistakes::each_mistake_has_one_line_and_the_exit_code_2"),
    ("--application", "applications::option_application_reads_hellos_of_tls"),
    ("--application, names", "applications::option_application_reads_only_what_it_names"),
    ("--dns-servers", "applications::option_dns_servers_marks_other_servers"),
    ("--passive-dns", "applications::option_passive_dns_writes_answers"),
    ("--sequence", "applications::option_sequence_adds_sizes_and_times"),
    ("--endpoint", "interfaces::option_endpoint_audits_this_machine_in_16_mib"),
    ("--threads", "threads::option_threads_changes_no_record"),
    ("--threads, a port", "threads::option_threads_shares_a_port"),
    ("--vni-in-key", "captures::option_vni_in_key_tells_tenants_apart"),
    ("--flows", "captures::option_flows_limits_how_many_are_tracked"),
    ("- FILTER", "captures::a_filter_follows_a_dash"),
    ("--label", "records::option_label_names_networks_and_ports"),
    ("-- FILTER", "captures::a_filter_follows_two_dashes"),
    ("FILTER", "captures::a_filter_follows_without_a_dash"),
    ("SIGHUP", "process::sighup_ends_the_sensor"),
    ("SIGINT", "process::sigint_ends_the_sensor"),
    ("SIGTERM", "process::sigterm_ends_the_sensor"),
    ("SIGUSR1", "process::option_d_upper_and_signals_change_the_debug_level"),
    ("SIGUSR2", "process::sigusr1_and_sigusr2_do_not_end_the_sensor"),
    ("/etc/argus.conf", "process::the_default_configuration_is_read"),
];

/// Options of the help text.
fn options() -> BTreeSet<String> {
    let help = run(&mut Sensor::Panoptes.with(&["-h"]));
    let lines = help.lines().filter(|line| !line.starts_with("  - "));
    let words = lines.filter_map(|line| line.strip_prefix("  -"));
    words.map(|line| format!("-{}", line.split([' ', '.']).next().unwrap_or_default())).collect()
}

#[test]
fn each_option_has_a_test() {
    let program = std::env::current_exe().expect("this program");
    let list = bounded::output(Command::new(program).args(["--list", "--format", "terse"]));
    let list = String::from_utf8(list.expect("a list of tests").stdout).expect("text");
    for (option, test) in TESTS {
        assert!(list.contains(&format!("{test}: test\n")), "{option}: there is no test {test}");
    }
    for option in options() {
        assert!(TESTS.iter().any(|(tested, _)| *tested == option), "{option} has no test");
    }
}
