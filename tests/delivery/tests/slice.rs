//! A slice of the campaign: a few records through each fault, to our own receivers.

use std::process::Command;

use panoptes_rig::product;

#[test]
fn a_few_records_survive_each_fault() {
    let program = product::program().expect("the program was built");
    let output = Command::new(env!("CARGO_BIN_EXE_panoptes-delivery"))
        .args(["run", "--records", "20000", "--restarts", "3", "--freeze", "2", "--program"])
        .arg(program)
        .output()
        .expect("the campaign starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{messages}");
    println!("{text}");
}
