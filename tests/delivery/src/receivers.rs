//! The receivers: how each is configured, started, stopped and frozen.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded::{self as bounded, Port};
use serde_json::{Value, json};

use crate::tls::Certificates;

/// A receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Our own, of this name.
    Own(&'static str),
    Rsyslog,
    SyslogNg,
    /// The npm package `@fluent-org/logger`.
    Fluent,
}

/// Where the programs of the receivers are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    pub(crate) rsyslog: Option<PathBuf>,
    pub(crate) syslog_ng: Option<PathBuf>,
    pub(crate) fluent: Option<PathBuf>,
}

/// How long a receiver may take to end.
const END: Duration = Duration::from_secs(15);
/// Libraries of unpacked Debian packages.
const LIBRARIES: [&str; 3] =
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/syslog-ng"];

/// A receiver, whether it runs or not.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) kind: Kind,
    /// Where what it got is, in files whose names are in order.
    pub(crate) folder: PathBuf,
    /// Its program: a file, or the folder of an unpacked package.
    program: PathBuf,
    port: Port,
    runs: u32,
    child: Option<Child>,
}

/// All receivers that can be had, none of which runs; each has its files below `folder`.
pub(crate) fn all(programs: &Programs, folder: &Path) -> io::Result<Vec<Receiver>> {
    let own = std::env::current_exe()?;
    let others = [
        (Kind::Rsyslog, &programs.rsyslog),
        (Kind::SyslogNg, &programs.syslog_ng),
        (Kind::Fluent, &programs.fluent),
    ];
    let others = others.into_iter().filter_map(|(kind, root)| Some((kind, root.clone()?)));
    let own_names = ["json", "syslog", "forward", "http", "tls", "https"];
    let kinds = own_names.map(|name| (Kind::Own(name), own.clone()));
    Certificates::of(&folder.join("any")).make()?;
    let mut receivers = Vec::new();
    for (kind, program) in kinds.into_iter().chain(others) {
        let folder = folder.join(kind.name());
        fs::create_dir(&folder)?;
        let port = Port::reserve()?;
        receivers.push(Receiver { kind, folder, program, port, runs: 0, child: None });
    }
    Ok(receivers)
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Own(name) => name,
            Self::Rsyslog => "rsyslog",
            Self::SyslogNg => "syslog-ng",
            Self::Fluent => "fluent",
        }
    }

    /// The value of `format`.
    fn format(self) -> &'static str {
        match self {
            Self::Own("http" | "tls" | "https") => "json",
            Self::Own(name) => name,
            Self::Rsyslog | Self::SyslogNg => "syslog",
            Self::Fluent => "forward",
        }
    }

    /// Whether it acknowledges what it has.
    pub(crate) fn acknowledges(self) -> bool {
        self.is_http() || self.format() == "forward"
    }

    fn is_http(self) -> bool {
        matches!(self, Self::Own("http" | "https"))
    }

    fn uses_tls(self) -> bool {
        matches!(self, Self::Own("tls" | "https"))
    }

    /// The value of `transport`.
    fn transport(self) -> &'static str {
        match self {
            Self::Own("tls") => "tls",
            _ if self.is_http() => "http",
            _ => "tcp",
        }
    }

    /// Whether each of its files has what came on one connection.
    pub(crate) fn separates(self) -> bool {
        self != Self::Fluent
    }
}

impl Receiver {
    /// Its entry of `output.telemetry`.
    pub(crate) fn entry(&self) -> Value {
        let mut entry = json!({
            "address": self.address(),
            "transport": self.kind.transport(),
            "format": self.kind.format(),
            "backlog": { "memory": "16MiB", "disk": "4GiB" },
        });
        if self.kind.uses_tls() {
            entry["tls"] = Certificates::of(&self.folder).entry();
        }
        entry
    }

    /// What metrics call the output to it.
    pub(crate) fn output_name(&self) -> String {
        let protocol = match self.kind {
            kind if kind.is_http() => "",
            kind if kind.uses_tls() => " (tls)",
            _ => " (tcp)",
        };
        self.address() + protocol
    }

    fn address(&self) -> String {
        let peer = format!("127.0.0.1:{}", self.port.number());
        let secure = if self.kind.uses_tls() { "s" } else { "" };
        if self.kind.is_http() { format!("http{secure}://{peer}/records") } else { peer }
    }

    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.runs += 1;
        let mut command = match self.kind {
            Kind::Own(format) => self.own(format),
            Kind::Rsyslog => self.rsyslog()?,
            Kind::SyslogNg => self.syslog_ng()?,
            Kind::Fluent => self.fluent()?,
        };
        let messages = self.beside("messages");
        let messages = File::options().create(true).append(true).open(messages)?;
        command.stdin(Stdio::null()).stdout(messages.try_clone()?).stderr(messages);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let begin = Instant::now();
        while child.try_wait()?.is_none() {
            if begin.elapsed() > END {
                child.kill()?;
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        Ok(kill(Pid::from_raw(child.id().cast_signed()), signal)?)
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(status) = child.try_wait()? else { return Ok(()) };
        let messages = fs::read_to_string(self.beside("messages")).unwrap_or_default();
        Err(io::Error::other(format!("{} has ended: {status}\n{messages}", self.kind.name())))
    }

    /// The files with what it got.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries: io::Result<Vec<_>> =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect();
        let mut paths = entries?;
        paths.sort();
        Ok(paths)
    }

    /// A path of this name beside its folder.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_extension(name)
    }

    fn out(&self) -> PathBuf {
        self.folder.join(format!("{:03}", self.runs))
    }

    fn own(&self, format: &str) -> Command {
        let mut command = tied(&self.program);
        let (port, run) = (self.port.number().to_string(), self.runs.to_string());
        command.args(["receive", format, &port]).arg(&self.folder).arg(run);
        command
    }

    fn rsyslog(&self) -> io::Result<Command> {
        let text = format!(
            "global(workDirectory=\"{}\")\n\
             main_queue(queue.timeoutShutdown=\"10000\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{}\")\n\
             template(name=\"record\" type=\"string\" string=\"%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"record\")\n",
            self.work()?.display(),
            self.port.number(),
            self.out().display()
        );
        let configuration = self.beside("conf");
        fs::write(&configuration, text)?;
        let mut command = tied(&self.program.join("usr/sbin/rsyslogd"));
        self.use_libraries(&mut command);
        command.arg("-n").arg("-f").arg(configuration).arg("-i").arg(self.beside("pid"));
        command.arg("-M").arg(self.program.join("usr/lib/x86_64-linux-gnu/rsyslog"));
        Ok(command)
    }

    fn syslog_ng(&self) -> io::Result<Command> {
        let text = format!(
            "@version: 3.38\n\
             source s {{ syslog(ip(127.0.0.1) transport(\"tcp\") port({})); }};\n\
             destination d {{ file(\"{}\" template(\"$MSG\\n\")); }};\n\
             log {{ source(s); destination(d); flags(flow-control); }};\n",
            self.port.number(),
            self.out().display()
        );
        let configuration = self.beside("conf");
        fs::write(&configuration, text)?;
        let mut command = tied(&self.program.join("usr/sbin/syslog-ng"));
        self.use_libraries(&mut command);
        let work = self.work()?;
        command.args(["--foreground", "--no-caps", "-f"]).arg(configuration);
        command.arg("-R").arg(work.join("persist")).arg("-p").arg(work.join("pid"));
        command.arg("-c").arg(work.join("control"));
        command.arg("--module-path").arg(self.program.join("usr/lib/syslog-ng/3.38"));
        Ok(command)
    }

    fn fluent(&self) -> io::Result<Command> {
        let script = self.beside("cjs");
        fs::write(&script, include_str!("forward.cjs"))?;
        let mut command = tied(Path::new("node"));
        command.arg(script).arg(self.program.join("node_modules/@fluent-org/logger"));
        command.arg(self.port.number().to_string()).arg(self.out());
        Ok(command)
    }

    fn work(&self) -> io::Result<PathBuf> {
        let work = self.beside("work");
        fs::create_dir_all(&work)?;
        Ok(work)
    }

    fn use_libraries(&self, command: &mut Command) {
        let folders = LIBRARIES.map(|folder| self.program.join(folder).display().to_string());
        command.env("LD_LIBRARY_PATH", folders.join(":"));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // After an error.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = bounded::wait(child);
        }
    }
}

/// A command that runs a program and kills it when the thread that started it ends.
pub(crate) fn tied(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
