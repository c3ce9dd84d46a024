//! Walks a file of raw physical memory and prints counts, times and losses.
//!
//!     cargo run --release -p panoptes-engine --example walk -- RAM [SCANS]

use std::path::Path;
use std::time::Instant;

use panoptes_engine::limits::Limits;
use panoptes_engine::path::{PathBuffer, write_file_name, write_path};
use panoptes_engine::source::{Detail, FileSource, Meter};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{Scope, Walker};
use panoptes_profiles::{Options, discover};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("usage: walk RAM [SCANS]");
    let scans: u32 = arguments.next().map_or(1, |count| count.parse().expect("a number"));
    let source = FileSource::open(Path::new(&path)).expect("the memory can be opened");
    let mut source = Meter::new(source, Detail::Batches).expect("nothing is needed");
    let begin = Instant::now();
    let profile = discover(&mut source, &Options::default(), &mut ()).expect("a kernel is found");
    println!("discovered {} in {:?}", profile.release, begin.elapsed());
    let kernel = kernel_of(&profile);
    let mut walker = Walker::new(&Limits::default(), 0x5eed_5eed_5eed_5eed);
    for _ in 0..scans {
        source.reset();
        let begin = Instant::now();
        let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
        println!(
            "{:?}: {} processes {} threads {} fds {} vmas {} connections {} interfaces {} files {} dentries {} inodes; {} batches {} requests; {:?} list closed {} idr whole {}",
            begin.elapsed(),
            snapshot.processes.len(),
            snapshot.threads.len(),
            snapshot.descriptors.len(),
            snapshot.vmas.len(),
            snapshot.connections.len(),
            snapshot.interfaces.len(),
            snapshot.files.len(),
            snapshot.dentries.len(),
            snapshot.inodes.len(),
            source.counts().batches,
            source.counts().requests,
            snapshot.losses,
            snapshot.task_list_closed,
            snapshot.idr_whole,
        );
    }
    let snapshot = walker.snapshot();
    if std::env::var_os("VERBOSE").is_none() {
        return;
    }
    println!("{:?}", snapshot.machine);
    let mut path = PathBuffer::default();
    for &index in snapshot.by_pid.iter() {
        let process = &snapshot.processes[index as usize];
        let leader = snapshot.leader(process).expect("a leader");
        let name = String::from_utf8_lossy(leader.task.name()).into_owned();
        let cwd = write_path(snapshot, process.cwd, &mut path)
            .map(|_| String::from_utf8_lossy(path.text()).into_owned());
        println!(
            "{} {name} {} views {} {:?} cwd {cwd:?} stable {}",
            leader.task.pid,
            leader.task.state_text(),
            leader.views,
            process.ids,
            process.stable
        );
        if let Some(mm) = snapshot.mms.at(process.mm) {
            let line = String::from_utf8_lossy(snapshot.text(&mm.command_line)).into_owned();
            let exe = snapshot.files.at(mm.exe_file).and_then(|file| {
                write_file_name(snapshot, file, &mut path)
                    .map(|_| String::from_utf8_lossy(path.text()).into_owned())
            });
            println!(
                "   {line:?} exe {exe:?} complete {} vmas {}/{}",
                mm.complete,
                mm.vmas.len(),
                mm.map_count
            );
            for vma in snapshot.vmas.range(&mm.vmas) {
                let file = snapshot.files.at(vma.file).and_then(|file| {
                    write_file_name(snapshot, file, &mut path)
                        .map(|_| String::from_utf8_lossy(path.text()).into_owned())
                });
                println!(
                    "      {:x}-{:x} {} {file:?}",
                    vma.vma.start,
                    vma.vma.end,
                    vma.vma.permissions()
                );
            }
        }
        if let Some(files) = snapshot.files_structs.at(process.files) {
            for fd in snapshot.descriptors.range(&files.descriptors) {
                let file = snapshot.files.at(fd.file).and_then(|file| {
                    write_file_name(snapshot, file, &mut path)
                        .map(|_| String::from_utf8_lossy(path.text()).into_owned())
                });
                println!("      {} {file:?}", fd.index);
            }
        }
    }
    for connection in snapshot.connections.iter() {
        println!("{:?} {:?}", connection.endpoints, connection.counters);
    }
    for interface in snapshot.interfaces.iter() {
        println!("{interface:?}");
    }
}
