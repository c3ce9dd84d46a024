//! The process: a daemon, its PID file, and what it gives up once interfaces and ports are open.
//!
//! A daemon is this program, started once more in a session of its own. The first process waits
//! until the second one has opened everything, and prints its mistakes. So a mistake has a message
//! and an exit code, as without `-d`. A fork without a new program would share the memory that
//! io_uring has registered.

use std::ffi::{CString, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::chroot;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::kill;
use nix::unistd::{Group, Pid, User, dup2_stderr, initgroups, setgid, setgroups, setsid, setuid};

use panoptes_sinks::output::links;

use super::request::FlowRequest;
use super::system::OpenSystem;
use super::values::mistake;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::{self, Role};

/// Set in the process that is the daemon.
const MARK: &str = "PANOPTES_FLOW_DAEMON";
/// PID files of one interface, for several sensors (`ARGUS_MAX_INSTANCES`).
const INSTANCES_MAX: u32 = 5;
/// How long a daemon that has failed may take to end.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Whether this process is the daemon that another one has started.
pub(super) fn is_daemon() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the daemon and waits until it is ready. The exit code, for this process.
pub(super) fn start_daemon() -> Result<Exit, Failure> {
    let failed = |error: &io::Error| Failure::io(error, Exit::Failed, "-d: cannot start a daemon");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().cloned().unwrap_or_default();
    let mut child = Command::new(program)
        .arg0(name)
        .args(arguments.get(1..).unwrap_or_default())
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut text = Vec::new();
    if let Some(mut output) = child.stderr.take() {
        // It ends when the daemon is ready or has ended.
        output.read_to_end(&mut text).map_err(|error| failed(&error))?;
    }
    let _ = io::stderr().write_all(&text);
    // A daemon that has failed is gone very soon.
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| failed(&error))? {
            None if begin.elapsed() < LAST_WAIT => std::thread::sleep(Duration::from_millis(5)),
            status => break status,
        }
    };
    let Some(status) = status else { return Ok(Exit::Done) };
    let all = Exit::MEANINGS.map(|(exit, _)| exit);
    let exit = all.into_iter().find(|exit| status.code() == Some(i32::from(*exit as u8)));
    Ok(exit.unwrap_or(Exit::Failed))
}

/// Begins a session of its own, under the name by which the first process was called. What searches
/// daemons by their names, such as pgrep(1) or start-stop-daemon(8), looks at the first thread's.
pub(super) fn leave_session() {
    // The first process of a group cannot; a started program is none.
    let _ = setsid();
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name);
    if let Some(name) = name.and_then(|name| CString::new(name.as_bytes()).ok()) {
        let _ = prctl::set_name(&name);
    }
}

/// Lets the first process end: everything is open.
pub(super) fn report_ready() -> Result<(), Failure> {
    let failed = |error: &io::Error| Failure::io(error, Exit::Failed, "-d: cannot open /dev/null");
    let null = fs::File::options().write(true).open("/dev/null").map_err(|error| failed(&error))?;
    dup2_stderr(&null).map_err(|error| failed(&error.into()))
}

/// The messages of a daemon: to the system's log.
pub(super) struct SystemLog(UnixDatagram);

impl SystemLog {
    /// Connects to the log; `None` if there is none.
    pub(super) fn open() -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect("/dev/log").ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }
}

impl Write for SystemLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Facility `daemon`, severity `notice`: RFC 3164 §4.1.1.
        let text = String::from_utf8_lossy(bytes);
        let line = format!("<29>panoptes[{}]: {}", std::process::id(), text.trim_end());
        self.0.send(line.as_bytes()).map(|_| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A PID file, which is removed at the end.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Makes `argus.INTERFACE.NUMBER.pid`, with the first number that no running process has.
    pub(super) fn make(folder: &Path, interface: &str) -> Result<Self, Failure> {
        for number in 0..INSTANCES_MAX {
            let path = folder.join(format!("argus.{interface}.{number}.pid"));
            let known = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            let is_running =
                known.is_some_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None).is_ok());
            if is_running {
                continue;
            }
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            let written = links::open(&options, &path)
                .and_then(|mut file| writeln!(file, "{}", std::process::id()));
            return match written {
                Ok(()) => Ok(Self(path)),
                Err(error) => Err(Failure::not_written(&path, &error)),
            };
        }
        let folder = folder.display();
        let message = format!("{INSTANCES_MAX} sensors of {interface} are running; see {folder}");
        Err(Failure::new(Exit::Failed, message))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Behind a new root or as another user it cannot be removed: the next start replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Removes a PID file at the end, on a thread of its own: the others may remove nothing.
pub(super) struct PidFileKeeper {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PidFileKeeper {
    pub(super) fn start(file: PidFile) -> io::Result<Self> {
        let (end, ended) = channel::<()>();
        let keep = move || {
            // It ends with its sender.
            let _ = ended.recv();
            drop(file);
        };
        let thread = thread::Builder::new().name("pid-file".to_owned()).spawn(keep)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for PidFileKeeper {
    fn drop(&mut self) {
        self.end = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// New user, group and root of the process, looked up before the root changes.
pub(super) struct RunAsIdentity {
    user: Option<User>,
    group: Option<Group>,
    root: Option<PathBuf>,
}

impl RunAsIdentity {
    pub(super) fn find(request: &FlowRequest) -> Result<Self, Failure> {
        let user = request.process.user.as_deref().map(|name| {
            let found = User::from_name(name).ok().flatten();
            found.ok_or_else(|| mistake(format!("-u: no user has the name `{name}`")))
        });
        let group = request.process.group.as_deref().map(|name| {
            let found = Group::from_name(name).ok().flatten();
            found.ok_or_else(|| mistake(format!("-g: no group has the name `{name}`")))
        });
        let root = request.process.root.clone();
        Ok(Self { user: user.transpose()?, group: group.transpose()?, root })
    }

    /// Changes the root, the groups and the user, in this order, for good, and gives up what the
    /// packets of `role`, outputs and the system beside the packets do not need. Another user keeps
    /// only what opening interfaces again takes.
    pub(super) fn assume(
        &self,
        role: Role,
        attached: Option<&OpenSystem>,
        messages: &Messages,
    ) -> Result<(), Failure> {
        self.change()?;
        let is_changed = self.user.is_some();
        let beside = attached.map(OpenSystem::system);
        sandbox::keep_those_of_flows(role, beside, is_changed, messages);
        Ok(())
    }

    fn change(&self) -> Result<(), Failure> {
        if let Some(root) = &self.root {
            let failed = |error: io::Error| {
                let what = format!("-c: cannot make {} the root", root.display());
                Failure::io(&error, Exit::Failed, what)
            };
            chroot(root).and_then(|()| std::env::set_current_dir("/")).map_err(failed)?;
        }
        let gid = self.group.as_ref().map(|group| group.gid);
        let gid = gid.or_else(|| self.user.as_ref().map(|user| user.gid));
        if let Some(gid) = gid {
            let groups = match &self.user {
                Some(user) => CString::new(user.name.clone())
                    .map_err(|_| nix::Error::EINVAL)
                    .and_then(|name| initgroups(&name, gid)),
                None => setgroups(&[gid]),
            };
            groups.and_then(|()| setgid(gid)).map_err(|error| refused("-g", error))?;
        }
        if let Some(user) = &self.user {
            sandbox::keep_capabilities(|| setuid(user.uid))
                .map_err(|error| refused("-u", error))?;
        }
        Ok(())
    }
}

fn refused(option: &str, error: nix::Error) -> Failure {
    Failure::io(&error.into(), Exit::Failed, format_args!("{option}: cannot change the identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sensor_has_a_pid_file_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |number: u32| folder.path().join(format!("argus.en0.{number}.pid"));
        // A process that does not run any more.
        fs::write(path(0), "2147483646\n").expect("written");
        let first = PidFile::make(folder.path(), "en0").expect("a file");
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(path(0)).expect("the file"), own);
        let second = PidFile::make(folder.path(), "en0").expect("a file");
        assert_eq!(fs::read_to_string(path(1)).expect("the file"), own);
        drop(first);
        assert!(!path(0).exists() && path(1).exists());
        drop(second);
        let missing = PidFile::make(&folder.path().join("none"), "en0").expect_err("no folder");
        assert_eq!(missing.exit, Exit::Output);
    }

    #[test]
    fn unknown_users_and_groups_are_mistakes() {
        let mut request = FlowRequest::default();
        request.process.user = Some("no-such-user".to_owned());
        let message = RunAsIdentity::find(&request).err().expect("unknown").to_string();
        assert_eq!(message, "-u: no user has the name `no-such-user`");
        let mut request = FlowRequest::default();
        request.process.group = Some("no-such-group".to_owned());
        let message = RunAsIdentity::find(&request).err().expect("unknown").to_string();
        assert_eq!(message, "-g: no group has the name `no-such-group`");
    }
}
