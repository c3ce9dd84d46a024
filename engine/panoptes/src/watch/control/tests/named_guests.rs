//! Systems that are named by their guests, whichever process these have.

use std::io::BufRead as _;
use std::process::{Child, Stdio};

use panoptes_bounded as bounded;

use super::*;

const WATCHED: &str = " is being watched, found in ";
/// Maps a file and waits for the end of its input.
const MONITOR: &str = "import mmap,sys; f=open(sys.argv[-1],'r+b'); m=mmap.mmap(f.fileno(),0); \
                       print('ready',flush=True); sys.stdin.read()";

/// A program with the name of QEMU that has the recorded machine as its memory. QEMU itself needs a
/// minute for a boot.
struct Monitor {
    program: PathBuf,
    home: String,
    ram: PathBuf,
}

impl Monitor {
    /// The error is the program that is not there.
    fn new(folder: &Path) -> Result<Self, &'static str> {
        let ram = machine(folder).ok_or("xz")?;
        let code = "import os,sys; print(os.path.realpath(sys.executable)); print(sys.base_prefix)";
        let output = match bounded::output(Command::new("python3").args(["-c", code])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("python3"),
            output => output.unwrap(),
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let (python, home) = text.trim().split_once('\n').unwrap();
        let program = folder.join("qemu-system-x86_64");
        fs::copy(python, &program).unwrap();
        Ok(Self { program, home: home.to_owned(), ram })
    }

    /// Starts a guest of this name.
    fn start(&self, name: &str) -> Child {
        let bytes = fs::metadata(&self.ram).unwrap().len();
        let mut child = Command::new(&self.program)
            .env("PYTHONHOME", &self.home)
            .args(["-c", MONITOR, "-name", name, "-machine", "q35", "-m", &format!("{bytes}B")])
            .arg(&self.ram)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        bounded::reader(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    bounded::wait(&mut child).unwrap();
}

/// Settings stay with the name, whichever process has it.
#[test]
fn a_system_named_by_its_guest_waits_for_it_and_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let monitor = match Monitor::new(folder.path()) {
        Ok(monitor) => monitor,
        Err(program) => return panoptes_needs::skip::test(program),
    };
    let name = format!("web-{}-1", std::process::id());
    let file = configure(folder.path(), &format!("systems: {{{name}: {{}}}}\n"));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait("no guest of this machine has this name", 1);
        let first = monitor.start(&name);
        driver.wait(WATCHED, 1);
        driver.wait(&format!("of qemu:{} (user ", first.id()), 1);
        end(first);
        let second = monitor.start(&name);
        driver.wait(WATCHED, 2);
        driver.wait(&format!("of qemu:{} (user ", second.id()), 1);
        end(second);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count(&format!("{name}: Linux 6.1")), 2, "{}", kept.text());
}

/// Two guests with one name: neither is scanned until one has ended.
#[test]
fn a_name_of_two_guests_is_reported_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let monitor = match Monitor::new(folder.path()) {
        Ok(monitor) => monitor,
        Err(program) => return panoptes_needs::skip::test(program),
    };
    let name = format!("web-{}-2", std::process::id());
    let (one, other) = (monitor.start(&name), monitor.start(&name));
    let file = configure(folder.path(), &format!("systems: {{web: {{system: 'qemu:{name}'}}}}\n"));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(&format!("web: qemu:{name}: 2 guests have this name: qemu:"), 1);
        let text = driver.kept.text();
        for child in [&one, &other] {
            assert!(text.contains(&format!("qemu:{} (user ", child.id())), "{text}");
        }
        assert_eq!(driver.kept.count(WATCHED), 0, "{text}");
        end(one);
        driver.wait(WATCHED, 1);
        driver.wait(&format!("of qemu:{} (user ", other.id()), 1);
    });
    end(other);
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}
