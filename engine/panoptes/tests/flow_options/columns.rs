//! `-w parquet:FILE`: columns, read by another reader, and compared with the JSON lines.

use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_traffic::Capture;

use crate::programs::{Folder, Running, Sensor, run};

/// Compares each column with the key of the JSON lines, and prints how many values there were.
const COMPARE: &str = r#"
import json, sys, datetime, pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
lines = [json.loads(line) for line in open(sys.argv[2])]
lines = [line for line in lines if line["kind"] == "flow"]
assert table.num_rows == len(lines), (table.num_rows, len(lines))
def flat(line):
    for key, value in line.items():
        if isinstance(value, dict):
            yield from ((key + "_" + inner, number) for inner, number in value.items())
        else:
            yield key, value
lines = [dict(flat(line)) for line in lines]
names = set(table.column_names)
count = 0
for line in lines:
    assert set(line) <= names, set(line) - names
for name in table.column_names:
    column = table.column(name)
    is_time = str(column.type) == "timestamp[ns, tz=UTC]"
    values = (column.cast("int64") if is_time else column).to_pylist()
    for line, value in zip(lines, values):
        expected = line.get(name)
        if is_time and expected is not None:
            text, fraction = expected[:-6].split(".")
            seconds = datetime.datetime.fromisoformat(text + "+00:00").timestamp()
            expected = int(seconds) * 10**9 + int(fraction)
        if name == "source_id" and expected is not None:
            expected = str(expected)
        assert value == expected, (name, value, expected)
        count += value is not None
print(count, len(lines), parquet.ParquetFile(sys.argv[1]).num_row_groups)
"#;

/// A Python that has pyarrow: that of `PANOPTES_PYARROW`, or the system's.
fn python() -> Option<String> {
    let python = std::env::var("PANOPTES_PYARROW").unwrap_or_else(|_| "python3".to_owned());
    let found = bounded::output(Command::new(&python).args(["-c", "import pyarrow.parquet"]));
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

#[test]
fn option_w_writes_columns() {
    let folder = Folder::new();
    // Enough for several row groups, which have up to 16,384 records.
    let capture = folder.capture("mix.pcap", &Capture::new(9).with_mix(400));
    let labels = folder.write("labels", b"0.0.0.0/0 all of it\n");
    let (columns, lines) = (folder.path("columns"), folder.path("lines"));
    let options = ["-AJmZ", "-U", "16", "-S", "0.01", "--label", &labels, "-r", &capture, "-w"];
    let mut command = Sensor::Panoptes.with(&options);
    command.arg(format!("parquet:{}", columns.display())).arg("-w");
    run(command.arg(format!("json:{}", lines.display())));
    // PAR1 at both ends, and the length of the footer before the last one.
    let bytes = crate::programs::bytes(&columns);
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let Some(python) = python() else {
        panoptes_needs::skip::test("PANOPTES_PYARROW");
        return;
    };
    let mut compare = Command::new(python);
    let printed = run(compare.args(["-c", COMPARE]).arg(&columns).arg(&lines));
    let counts: Vec<u64> =
        printed.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [values, records, groups] = counts[..] else { panic!("{printed}") };
    assert!(values > 20 * records && records > 500, "{printed}");
    assert_eq!(groups, records.div_ceil(16_384), "{printed}");
}

#[test]
fn columns_are_never_appended() {
    let folder = Folder::new();
    let capture = folder.capture("mix.pcap", &Capture::new(9).with_mix(5));
    let file = format!("parquet:{}", folder.write("there", b"x"));
    let ended = Running::start(&mut Sensor::Panoptes.with(&["-r", &capture, "-w", &file])).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    assert!(ended.messages.contains("File exists"), "{}", ended.messages);
    assert_eq!(crate::programs::bytes(&folder.path("there")), b"x");
}
