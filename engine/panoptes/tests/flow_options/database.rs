//! Debian's `rasqlinsert` writes records to MariaDB, which runs in a temporary folder and a network
//! of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;
use panoptes_rig::boxes::MARIADB;
use panoptes_rig::gate::is_long_allowed;
use panoptes_traffic::Row;

use crate::network::enter;
use crate::programs::{BOTH, Folder, Running, client, until};
use crate::stream::{plain, rows, same};

const FIELDS: [&str; 10] =
    ["proto", "saddr", "sport", "daddr", "dport", "spkts", "dpkts", "sbytes", "dbytes", "state"];

/// How long `rasqlinsert` has to write all records, and how often it may try.
const ATTEMPT: Duration = Duration::from_secs(3);
const ATTEMPTS_MAX: usize = 20;

/// A running database.
struct Database {
    folder: Folder,
    client: PathBuf,
    server: Running,
}

impl Database {
    fn start(programs: &Path) -> Self {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path("data/flows")).expect("there is room");
        let root = programs.with_file_name("root");
        let path = |name: &str| folder.text(name);
        let mut command = Command::new(programs.join("mariadbd"));
        // No tables of its own, so no users and no passwords: nobody else is in this network.
        command
            .args(["--no-defaults", "--user=root", "--skip-grant-tables", "--skip-name-resolve"])
            .args(["--bind-address=127.0.0.1", "--port=3306"])
            .args(["--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"])
            .arg(format!("--basedir={}", root.join("usr").display()))
            .arg(format!("--lc-messages-dir={}", root.join("usr/share/mysql").display()))
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--tmpdir={}", path("data")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--socket={}", path("socket")));
        let server = Running::start(&mut command);
        let database = Self { folder, client: programs.join("mariadb"), server };
        until(|| database.server.messages(), || database.ask("SELECT 1").is_some());
        database
    }

    /// The lines of an answer; `None` without one.
    fn ask(&self, question: &str) -> Option<Vec<String>> {
        let socket = format!("--socket={}", self.folder.text("socket"));
        let options = ["--no-defaults", &socket, "--skip-column-names", "--batch"];
        let mut command = Command::new(&self.client);
        let output = bounded::output(command.args(options).args(["flows", "-e", question]));
        let output = output.expect("the client starts");
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| text.lines().map(str::to_owned).collect())
    }
}

fn line(row: &Row) -> String {
    FIELDS.map(|field| row.text(field).to_owned()).join("\t")
}

/// Has `rasqlinsert` write a file to a new table; the rows in the end. It does not end by itself,
/// and often leaves records in its memory or sends empty commands, of argus's records, too.
fn insert(database: &Database, table: &str, file: &Path, count: usize) -> Vec<String> {
    let _ = database.ask(&format!("DROP TABLE IF EXISTS {table}"));
    let url = format!("mysql://root@127.0.0.1/flows/{table}");
    let mut command = client("rasqlinsert", &["-n", "-m", "none", "-w", &url, "-r"]);
    command.arg(file).arg("-s").args(FIELDS).args(["-", "not", "man"]);
    let _running = Running::start(&mut command);
    let question = format!("SELECT {} FROM {table}", FIELDS.join(","));
    let begin = Instant::now();
    loop {
        let mut found = database.ask(&question).unwrap_or_default();
        if found.len() >= count || begin.elapsed() > ATTEMPT {
            for line in &mut found {
                *line = line.trim_end().to_owned();
            }
            found.sort();
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn rasqlinsert_writes_records_to_a_database() {
    let what = "starts MariaDB and tries rasqlinsert until it writes all records";
    if !is_long_allowed("rasqlinsert_writes_records_to_a_database", what) || !enter(0) {
        return;
    }
    let programs = MARIADB.in_cache().unwrap_or_else(|error| panic!("{error}"));
    let programs = programs.expect("`cargo xtask test` fetches MariaDB with PANOPTES_LONG=1");
    let database = Database::start(&programs);
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let files = folder.both(&["-A", "-r", &capture], &[]);
    same(&files);
    for (file, sensor) in files.iter().zip(BOTH) {
        let table = format!("{sensor:?}").to_lowercase();
        let mut expected: Vec<_> = rows(file).iter().map(line).collect();
        expected.sort();
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            found = insert(&database, &table, file, expected.len());
            if found.len() >= expected.len() {
                break;
            }
        }
        assert_eq!(found, expected, "{table}");
    }
}
