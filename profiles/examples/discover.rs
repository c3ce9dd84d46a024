//! Prints everything that discovery finds in a file of raw physical memory, with the time of each
//! stage.
//!
//!     cargo run --release -p panoptes-profiles --example discover -- RAM [OPTION…]
//!
//! Options: `no-kallsyms`, `no-vmcoreinfo`, `first`, `profile=FILE`, `write=FILE`.
//!
//! The file offset is the physical address (x86 guests below 2.75 GiB).

use std::process::ExitCode;
use std::time::Instant;

use panoptes_profiles::report::Stage;
use panoptes_profiles::{Event, Options, Profile, ProfileFile, discover};

#[path = "../tests/common/raw_file.rs"]
mod raw_file;

use raw_file::RawFile;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!(
            "usage: discover RAM [no-kallsyms] [no-vmcoreinfo] [first] [profile=FILE] [write=FILE]"
        );
        return ExitCode::from(2);
    };
    let mut options = Options::default();
    let mut files = Vec::new();
    let mut write = None;
    for argument in arguments {
        match argument.split_once('=') {
            None if argument == "no-kallsyms" => options.use_kallsyms = false,
            None if argument == "first" => options.look_for_newer = false,
            None if argument == "no-vmcoreinfo" => options.use_vmcoreinfo = false,
            Some(("profile", file)) => {
                let bytes = std::fs::read(file).expect("the profile can be read");
                files.push(ProfileFile::parse(&bytes).expect("the profile can be parsed"));
            }
            Some(("write", file)) => write = Some(file.to_owned()),
            _ => eprintln!("ignored: {argument}"),
        }
    }
    options.files = &files;
    let mut source = RawFile::open(path.as_ref()).expect("the memory can be opened");
    let begin = Instant::now();
    let mut stage = (Stage::Done, begin);
    let found = discover(&mut source, &options, &mut |event: Event<'_>| match event {
        Event::Stage(next) => {
            if stage.0 != Stage::Done {
                println!("  {:8.3} ms  {:?}", stage.1.elapsed().as_secs_f64() * 1e3, stage.0);
            }
            stage = (next, Instant::now());
        }
        Event::OsIdentifierFound { trace, at, release, build_id } => {
            println!("found {release} ({}) by {trace} at {at}", build_id.unwrap_or("no build id"));
        }
        Event::OsIdentifierDiscoveryExtended { to } => println!("extended to {to:?}"),
        Event::CandidateRefused(attempt) => println!("refused {attempt}"),
        Event::LoadingProfileCandidate(origin) => println!("loading {origin}"),
        Event::ProfileVerificationSuccessful(checks) => {
            for check in checks {
                println!("check {check}");
            }
        }
        _ => {}
    });
    println!(
        "{:.3} ms in all, {} reads, {} bytes read of {}",
        begin.elapsed().as_secs_f64() * 1e3,
        source.reads,
        source.bytes,
        source.region.end
    );
    let profile = match found {
        Ok(profile) => profile,
        Err(error) => {
            println!("{}: {error}", error.activity());
            return ExitCode::from(65);
        }
    };
    print(&profile);
    if let Some(write) = write {
        let file = profile.to_file().expect("the kernel has a build id");
        std::fs::write(&write, file.to_bytes()).expect("the profile can be written");
        println!("written        {write}");
    }
    ExitCode::SUCCESS
}

fn print(profile: &Profile) {
    println!("release        {}", profile.release);
    println!("build id       {}", profile.build_id.as_deref().unwrap_or("-"));
    println!("kernel offset  {:#x}", profile.kernel_offset);
    println!("space          {:x?}", profile.space);
    println!("timekeeper     {:?}", profile.timekeeper);
    for (name, address) in profile.symbols.iter() {
        println!("  {name:20} {}", address.map_or("-".to_owned(), |at| at.to_string()));
    }
    let task = &profile.layouts.task_struct;
    println!("task_struct    {} bytes, packed {} bytes", task.size, task.packing.bytes());
}
