//! A table of changes: 40 that matter and 40 that do not, each path written by hand.

use super::*;

/// A file that nobody may execute, and one that is a program.
const DATA: bool = false;
const PROGRAM: bool = true;

const MATTER: [(&str, bool); 40] = [
    // programs, libraries and scripts of the system
    ("/usr/bin/tail", PROGRAM),
    ("/bin/ls", PROGRAM),
    ("/usr/sbin/sshd", PROGRAM),
    ("/sbin/init", PROGRAM),
    ("/usr/local/bin/deploy", PROGRAM),
    ("/usr/lib/x86_64-linux-gnu/libz.so.1.2.13", DATA),
    ("/lib/modules/6.1.0-50-amd64/extra/rootkit.ko", DATA),
    ("/lib64/ld-linux-x86-64.so.2", PROGRAM),
    ("/usr/lib/python3/dist-packages/apt/cache.py", DATA),
    ("/usr/libexec/sudo/sudoers.so", DATA),
    ("/usr/share/initramfs-tools/hooks/fsck", PROGRAM),
    ("/usr/share/perl5/Debconf/Client.pm", DATA),
    ("/usr/games/fortune", PROGRAM),
    ("/opt/agent/bin/agentd", PROGRAM),
    ("/opt/agent/lib/libagent.so.3", DATA),
    // accounts, sudo, PAM, the loader
    ("/etc/passwd", DATA),
    ("/etc/shadow", DATA),
    ("/etc/sudoers", DATA),
    ("/etc/sudoers.d/90-ann", DATA),
    ("/etc/pam.d/common-auth", DATA),
    ("/etc/ssh/sshd_config", DATA),
    ("/etc/ld.so.preload", DATA),
    ("/etc/ld.so.conf.d/x.conf", DATA),
    ("/etc/ld.so.cache", DATA),
    ("/root/.ssh/authorized_keys", DATA),
    ("/srv/git/.ssh/authorized_keys2", DATA),
    // crontabs, units, timers
    ("/etc/crontab", DATA),
    ("/etc/cron.d/backup", DATA),
    ("/etc/cron.daily/logrotate", PROGRAM),
    ("/var/spool/cron/crontabs/root", DATA),
    ("/var/spool/cron/atjobs/a0000101c4b2e1", PROGRAM),
    ("/etc/systemd/system/backdoor.timer", DATA),
    ("/run/systemd/system/backdoor.service", DATA),
    ("/home/ann/.config/systemd/user/sync.service", DATA),
    // start files of shells
    ("/root/.bashrc", DATA),
    ("/home/ann/.profile", DATA),
    ("/home/ann/.zshrc", DATA),
    // the start of the machine
    ("/boot/initrd.img-6.1.0-50-amd64", DATA),
    // the same in containers' file systems
    ("/var/lib/docker/overlay2/4f1c0de5/diff/etc/passwd", DATA),
    ("/var/lib/containers/storage/overlay/9e8d/diff/usr/bin/python3.11", PROGRAM),
];

const DO_NOT_MATTER: [(&str, bool); 40] = [
    // logins
    ("/run/utmp", DATA),
    ("/var/log/wtmp", DATA),
    ("/var/log/lastlog", DATA),
    ("/var/log/btmp", DATA),
    ("/run/motd.dynamic.new", DATA),
    ("/run/systemd/sessions/.#41TfUW2a", DATA),
    ("/run/systemd/users/.#1000bXyZ12", DATA),
    ("/root/.bash_history", DATA),
    ("/root/.ssh/known_hosts", DATA),
    ("/home/ann/.ssh/known_hosts.old", DATA),
    ("/home/ann/.viminfo", DATA),
    ("/home/ann/.cache/thumbnails/x.png", DATA),
    // what systemd writes by itself
    ("/run/systemd/transient/run-r7c2.service", DATA),
    ("/run/systemd/generator/dev-vda1.mount", DATA),
    ("/var/lib/systemd/timers/stamp-apt-daily.timer", DATA),
    ("/run/log/journal/0c1a/system.journal", DATA),
    // logs, databases, spools
    ("/var/log/nginx/access.log", DATA),
    ("/var/lib/logrotate/status.tmp", DATA),
    ("/var/lib/redis/temp-812.rdb", DATA),
    ("/var/lib/postgresql/15/main/base/5/2619", DATA),
    ("/var/lib/dpkg/status-new", DATA),
    ("/var/lib/apt/lists/partial/deb.debian.org_InRelease", DATA),
    ("/var/cache/apt/pkgcache.bin.dTq9", DATA),
    ("/var/spool/anacron/cron.daily", DATA),
    ("/var/spool/cron/atspool/a0000101c4b2e1", DATA),
    ("/var/spool/postfix/incoming/4F1C0", DATA),
    // building and copying
    ("/tmp/cc8Qk2Zm.s", DATA),
    ("/root/src/hello/hello.o", DATA),
    ("/root/src/hello/hello", PROGRAM),
    ("/home/ann/project/.git/index.lock", DATA),
    ("/home/ann/project/run.sh", PROGRAM),
    ("/srv/backup/doc/copyright", DATA),
    ("/usr/lib/python3.11/re/__pycache__/__init__.cpython-311.pyc.139", DATA),
    // documentation and caches of the system, data of applications
    ("/usr/share/doc/zlib1g/copyright", DATA),
    ("/usr/share/mime/mime.cache", DATA),
    ("/opt/agent/log/agent.log", DATA),
    // what the system writes into its settings by itself
    ("/etc/machine-id", DATA),
    ("/etc/resolv.conf", DATA),
    ("/boot/grub/grubenv", DATA),
    // a container's own data
    ("/var/lib/docker/overlay2/4f1c0de5/diff/var/log/app.log", DATA),
];

fn file(path: &str, may_execute: bool) -> ChangedFile<'_> {
    ChangedFile { path: Some(path.as_bytes()), may_execute, ..ChangedFile::default() }
}

#[test]
fn forty_changes_matter_and_forty_do_not() {
    let rules = ContentRules::default();
    for (path, may_execute) in MATTER {
        assert!(rules.matters(&file(path, may_execute)), "{path} matters");
    }
    for (path, may_execute) in DO_NOT_MATTER {
        assert!(!rules.matters(&file(path, may_execute)), "{path} does not matter");
    }
}

#[test]
fn what_runs_and_what_was_shipped_to_run_matters_anywhere() {
    let rules = ContentRules::default();
    let serve = file("/srv/app/serve", PROGRAM);
    assert!(!rules.matters(&serve));
    assert!(rules.matters(&ChangedFile { is_running: true, ..serve }));
    assert!(rules.matters(&ChangedFile { is_shipped: true, ..serve }));
    // An SBOM of a root folder has every file of it.
    let log = ChangedFile { is_shipped: true, ..file("/var/log/wtmp", DATA) };
    assert!(!rules.matters(&log));
    let module = ChangedFile { is_shipped: true, ..file("/srv/app/serve.py", DATA) };
    assert!(rules.matters(&module));
}

#[test]
fn a_file_of_unknown_path_matters() {
    assert!(ContentRules::default().matters(&ChangedFile::default()));
}

/// udev renames the files of its database while they are open, and the machine stood still then.
#[test]
fn a_file_whose_name_was_just_changing_matters_only_if_it_runs_or_all_files_do() {
    let changing = ChangedFile { is_nameless_by_chance: true, ..ChangedFile::default() };
    let rules = ContentRules::default();
    assert!(!rules.matters(&changing));
    assert!(rules.matters(&ChangedFile { is_running: true, ..changing }));
    let some = ContentRules { include: vec![Glob::new("/srv/*")], ..ContentRules::default() };
    assert!(!some.matters(&changing));
    let all = ContentRules { include: vec![Glob::new("*")], ..ContentRules::default() };
    assert!(all.matters(&changing));
}

#[test]
fn the_configuration_adds_and_removes_files() {
    let globs = |patterns: &[&str]| patterns.iter().map(|it| Glob::new(it)).collect();
    let rules = ContentRules {
        include: globs(&["/srv/app/*"]),
        exclude: globs(&["/etc/app/*", "/srv/app/data/*"]),
        ..ContentRules::default()
    };
    assert!(rules.matters(&file("/srv/app/config", DATA)));
    assert!(!rules.matters(&file("/srv/app/data/1", DATA)));
    assert!(!rules.matters(&file("/etc/app/state", DATA)));
    assert!(rules.matters(&file("/etc/passwd", DATA)));
    let running = ChangedFile { is_running: true, ..file("/etc/app/plugin", PROGRAM) };
    assert!(!rules.matters(&running), "what is excluded is excluded in any case");
}

#[test]
fn the_first_pattern_of_a_severity_applies() {
    let severities = [("/etc/shadow", Severity::High), ("/etc/*", Severity::Low)];
    let rules = ContentRules {
        severities: severities.map(|(glob, severity)| (Glob::new(glob), severity)).into(),
        ..ContentRules::default()
    };
    assert_eq!(rules.severity(Some(b"/etc/shadow")), Some(Severity::High));
    assert_eq!(rules.severity(Some(b"/etc/passwd")), Some(Severity::Low));
    assert_eq!(rules.severity(Some(b"/usr/bin/tail")), None);
    assert_eq!(rules.severity(None), None);
}
