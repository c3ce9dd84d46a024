//! The techniques of MITRE ATT&CK that an alert indicates, in one place.
//!
//! There is one constant per case, each a list of ids of one version of ATT&CK
//! ([`panoptes_records::record::detection::ATTACK_VERSION`]). The code of a record decides between
//! the cases of its activity.

use crate::state::ExceededThreshold;

pub(super) type Techniques = &'static [&'static str];

/// Hiding of running programs (T1014, Rootkit).
pub(super) const ROOTKIT: Techniques = &["T1014"];

/// A kernel module that hides itself (T1014; T1547.006, Kernel Modules and Extensions).
pub(super) const HIDDEN_MODULE: Techniques = &["T1014", "T1547.006"];

/// A program of eBPF that hides itself.
pub(super) const HIDDEN_PROGRAM: Techniques = &["T1014"];
/// The same of one that sees packets before the kernel's own filters do (T1014; T1205, Traffic
/// Signaling).
pub(super) const HIDDEN_FILTER: Techniques = &["T1014", "T1205"];
/// A program of eBPF that can change what others see or do.
pub(super) const DANGEROUS_PROGRAM: Techniques = &["T1014"];

/// Packets of a program that the kernel denies (T1014, Rootkit; T1095, Non-Application Layer
/// Protocol).
pub(super) const HIDDEN_CONNECTION: Techniques = &["T1014", "T1095"];
/// A port that only those know who have hidden it (T1014; T1205, Traffic Signaling).
pub(super) const HIDDEN_LISTENER: Techniques = &["T1014", "T1205"];

/// A large amount of data goes out (T1041, Exfiltration Over C2 Channel; T1048, Exfiltration Over
/// Alternative Protocol).
pub(super) const DATA_OUT: Techniques = &["T1041", "T1048"];
/// A large amount of data comes in (T1105, Ingress Tool Transfer).
pub(super) const DATA_IN: Techniques = &["T1105"];
/// A long-lasting connection (T1572, Protocol Tunneling; T1095, Non-Application Layer Protocol).
pub(super) const LONG_LASTING: Techniques = &["T1572", "T1095"];

/// Ingress of a new tool (T1105).
pub(super) const FOREIGN: Techniques = &["T1105"];
/// The same without a file (T1620, Reflective Code Loading).
pub(super) const FILELESS: Techniques = &["T1105", "T1620"];
/// The same with its file deleted (T1070.004, File Deletion).
pub(super) const DELETED: Techniques = &["T1105", "T1070.004"];
/// A binary of the host was replaced (T1554, Compromise Host Software Binary).
pub(super) const MODIFIED: Techniques = &["T1554"];
/// A binary under another's name or path (T1036.005, Match Legitimate Resource Name or Location).
pub(super) const ELSEWHERE: Techniques = &["T1036.005"];
/// The same without a file.
pub(super) const ELSEWHERE_FILELESS: Techniques = &["T1036.005", "T1620"];
/// A library that is loaded instead of another (T1574.006, Dynamic Linker Hijacking), or by itself
/// (T1129, Shared Modules).
pub(super) const LIBRARY: Techniques = &["T1574.006", "T1129"];

/// Code put into a running program (T1055, Process Injection; T1620, Reflective Code Loading).
pub(super) const INJECTED: Techniques = &["T1055", "T1620"];
/// Changed code of the program itself (T1055).
pub(super) const PATCHED: Techniques = &["T1055"];

/// A file that was written (T1565.001, Stored Data Manipulation).
pub(super) const CONTENT: Techniques = &["T1565.001"];

/// The same of a program that runs with the rights of another one than who starts it (T1548.001,
/// Setuid and Setgid).
pub(super) const CONTENT_SET_ID: Techniques = &["T1565.001", "T1548.001"];
/// A program that got such rights.
pub(super) const SET_ID: Techniques = &["T1548.001"];
/// Other permissions, or another owner (T1222.002, Linux and Mac File and Directory Permissions
/// Modification).
pub(super) const PERMISSIONS: Techniques = &["T1222.002"];

/// A cleared shell history (T1070.003, Clear Command History).
pub(super) const CLEAR_HISTORY: Techniques = &["T1070.003"];
/// A shell history that is off (T1690, Prevent Command History Logging; T1562.003 up to version
/// 17).
pub(super) const PREVENT_HISTORY: Techniques = &["T1690"];

/// A shell that a peer commands (T1059.004, Unix Shell) over no application protocol (T1095).
pub(super) const SHELL: Techniques = &["T1059.004", "T1095"];
/// The same at a port that such a protocol usually has (T1071, Application Layer Protocol).
pub(super) const SHELL_AT_KNOWN_PORT: Techniques = &["T1059.004", "T1071"];
/// A language's interpreter (T1059, Command and Scripting Interpreter) that a peer commands.
pub(super) const LANGUAGE: Techniques = &["T1059", "T1095"];
/// The same at such a port.
pub(super) const LANGUAGE_AT_KNOWN_PORT: Techniques = &["T1059", "T1071"];

/// The techniques of a connection that has exceeded a threshold.
pub(super) const fn of_connection(exceeded: ExceededThreshold) -> Techniques {
    match exceeded {
        ExceededThreshold::BytesIn { .. } => DATA_IN,
        ExceededThreshold::BytesOut { .. } => DATA_OUT,
        ExceededThreshold::Duration { .. } => LONG_LASTING,
    }
}
