//! A further capture behind the end of one: its writer was started again, or its file was emptied.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::*;

/// Packets of another time and of another link layer.
fn later(link: u16) -> Vec<OwnedFrame> {
    let later = three().into_iter();
    later.map(|p| OwnedFrame { time_ns: p.time_ns + 60_000_000_000, link, ..p }).collect()
}

/// A capture with this link type: that of pcap is at a fixed place.
fn with_link(order: Order, link: u8) -> Vec<u8> {
    let mut bytes = pcap(order, &later(1));
    bytes[if order == Order::Little { 20 } else { 23 }] = link;
    bytes
}

fn expected(link: u16) -> Vec<OwnedFrame> {
    [three(), later(link)].concat()
}

#[test]
fn a_header_behind_a_packet_begins_a_further_capture() {
    for before in
        ORDERS.into_iter().flat_map(|order| [pcap(order, &three()), pcapng(order, &three())])
    {
        for order in ORDERS {
            let outcome = read(&[&before[..], &with_link(order, 113)].concat());
            assert_eq!((outcome.packets, outcome.error), (expected(113), None));
            assert_eq!(outcome.skipped, SkippedCounts::default());
            let outcome = read(&[&before[..], &pcapng(order, &later(1))].concat());
            let times =
                |packets: &[OwnedFrame]| packets.iter().map(|p| p.time_ns).collect::<Vec<_>>();
            assert_eq!(times(&outcome.packets), times(&expected(1)));
            assert_eq!((outcome.error, outcome.skipped), (None, SkippedCounts::default()));
        }
    }
}

#[test]
fn headers_without_packets_are_captures_without_packets() {
    let (pcaps, sections) =
        (ORDERS.map(|order| pcap(order, &[])), ORDERS.map(|order| pcapng(order, &[])));
    let headers = [&pcaps[0][..], &sections[1], &pcaps[1], &pcaps[1], &sections[0]].concat();
    let outcome = read(&[headers.repeat(20_000), pcap(Order::Big, &three())].concat());
    assert_eq!((outcome.packets, outcome.error), (three(), None));
    assert_eq!(outcome.skipped, SkippedCounts::default());
}

#[test]
fn the_end_within_a_further_header_is_counted() {
    for further in [pcap(Order::Little, &[]), pcapng(Order::Big, &[])] {
        for length in 1..24 {
            let outcome = read(&[&pcap(Order::Big, &three())[..], &further[..length]].concat());
            assert_eq!((outcome.packets, outcome.error), (three(), None), "{length}");
            assert_eq!(outcome.skipped.cut_bytes, length as u64);
        }
    }
}

#[test]
fn what_packets_hold_is_no_header() {
    let inside = [pcap(Order::Little, &three()), pcapng(Order::Big, &three())].concat();
    let magics = [0xa1b2_c3d4_u32, 0xa1b2_3c4d, 0xa1b2_cd34];
    let times = magics.iter().map(|magic| i64::from(*magic) * 1_000_000_000);
    let at =
        |time_ns| [packet(time_ns, 0, b""), packet(time_ns, 0, &inside), packet(time_ns, 9, b"")];
    let packets: Vec<_> = times.flat_map(at).collect();
    for order in ORDERS {
        let outcome = read(&pcap(order, &packets));
        assert_eq!((outcome.packets, outcome.error), (packets.clone(), None));
        let outcome = read(&pcapng(order, &packets));
        assert_eq!((outcome.packets, outcome.error), (packets.clone(), None));
    }
}

fn fifo(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = folder.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    path
}

#[test]
fn the_next_writer_of_a_fifo_begins_anew_where_the_last_one_ended_within_a_packet() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(&folder);
    let stop = Arc::new(AtomicBool::new(false));
    let options =
        CaptureOptions { follow: true, stop: Some(stop.clone()), ..CaptureOptions::default() };
    let place = path.clone();
    let reading = std::thread::spawn(move || drain(CaptureFile::open(&place, &options).unwrap()));
    let whole = pcap(Order::Little, &three());
    let cut = [&whole[..], &whole[24..24 + 30]].concat();
    for piece in [&cut[..], &with_link(Order::Big, 113), &pcapng(Order::Little, &three())] {
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(piece).unwrap();
        drop(writer);
        // Longer than a look for more.
        std::thread::sleep(Duration::from_millis(300));
    }
    stop.store(true, Ordering::Relaxed);
    let outcome = reading.join().unwrap();
    assert_eq!(outcome.packets, [expected(113), three()].concat());
    assert_eq!((outcome.error, outcome.skipped.cut_bytes), (None, 30));
}

/// Follows a file whose writer does something when its end is reached for the first time.
fn follow(bytes: &[u8], mut write: impl FnMut(&File) + Send + 'static) -> Vec<OwnedFrame> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let (writer, mut looks) = (File::options().write(true).open(file.path()).unwrap(), 0);
    let over = move || {
        looks += 1;
        if looks == 1 {
            write(&writer);
        }
        looks == 3
    };
    let opened = file.reopen().unwrap();
    drain(CaptureFile::follow(opened, "a", &CaptureOptions::default(), over).unwrap()).packets
}

#[test]
fn a_followed_file_that_is_written_anew_ends_though_it_is_longer() {
    let anew = pcap(Order::Little, &[later(1), later(1)].concat());
    let packets = follow(&pcap(Order::Little, &three()), move |file| {
        file.set_len(0).unwrap();
        file.write_all_at(&anew, 0).unwrap();
    });
    assert_eq!(packets, three());
}

/// The writer continues at its old offset, as one without O_APPEND does when its file is emptied.
#[test]
fn a_hole_at_the_beginning_of_a_followed_file_ends_nothing() {
    let (whole, more) = (pcap(Order::Little, &three()), with_link(Order::Little, 1));
    let end = whole.len() as u64;
    let packets = follow(&whole, move |file| {
        file.set_len(0).unwrap();
        file.write_all_at(&more[24..], end).unwrap();
    });
    assert_eq!(packets, expected(1));
}

#[test]
fn a_section_whose_length_is_written_later_goes_on() {
    let whole = pcapng(Order::Little, &three());
    let more = pcapng(Order::Little, &expected(1))[whole.len()..].to_vec();
    let end = whole.len() as u64;
    let packets = follow(&whole, move |file| {
        file.write_all_at(&more, end).unwrap();
        file.write_all_at(&(end - 28).to_le_bytes(), 16).unwrap();
    });
    assert_eq!(packets, expected(1));
}
