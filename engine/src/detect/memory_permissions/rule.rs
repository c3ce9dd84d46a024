//! The rule: which changes of the right to execute are findings, and which are normal for loaders
//! and runtimes.
//!
//! The rule uses no names of programs or libraries. It uses what the area is, what was in it, what
//! its file declares about it and what is around it.
//!
//! | change | finding | exception |
//! |---|---|---|
//! | the stack becomes executable | always | a mapped file asks for that ([`Exemption::AskedFor`]) |
//! | the heap becomes executable | always | nothing was written to it ([`Exemption::Empty`]) |
//! | memory without a file becomes executable | it was written before | nothing was in it ([`Exemption::Empty`]); it may have been mapped anew ([`Exemption::MappedAnew`]); a fork inherited it ([`Exemption::Inherited`]); it is a part of space reserved for code ([`Exemption::Reserved`]); a code generator is loaded ([`Exemption::Generator`]). The last two hold for programs of root alone ([`AreaContext::is_of_root`]) |
//! | shared memory becomes executable | it was writable before | it was not: the file's own content ([`Exemption::FilesOwn`]); a code generator is loaded |
//! | a part of a file becomes executable | it was written before | only the file's own content is there ([`Exemption::FilesOwn`]); the file needs text relocations ([`Exemption::Relocated`]) |
//! | memory without a file is no longer executable | it is not writable, or this program had a finding before | it is inaccessible now ([`Exemption::Closed`]); all exceptions above |
//! | a part of a file is no longer executable | the file declares it as text | it is not text ([`Exemption::NotText`]): the loader lays out the file's parts, also over another part of the same file ([`Exemption::MappedAnew`]); the headers are unknown; text relocations |

/// The kind of an area.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AreaKind {
    /// Private memory without a file.
    Anonymous,
    /// Memory from `brk`.
    Heap,
    /// The first thread's stack.
    Stack,
    /// A file, or memory that other processes can map as well; writes reach them, too.
    Shared,
    /// A file, mapped privately.
    File,
}

/// How the right to execute changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PermissionDirection {
    Added,
    Removed,
}

/// One change: the rule's input.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each by itself")]
pub struct PermissionChange {
    pub direction: PermissionDirection,
    pub backing: AreaKind,
    /// Whether it was there in the last scan, with other permissions.
    pub preexisting: bool,
    /// Whether it was writable in the last scan.
    pub was_writable: bool,
    /// Whether it is writable now.
    pub is_writable: bool,
    /// Whether it is readable, writable or executable now.
    pub is_open: bool,
    /// Whether it has pages of its own: something was written to it.
    pub is_written: bool,
    /// Whether those may be the pages of the last scan.
    pub is_same: bool,
    /// Whether another part of a file was mapped there before.
    pub had_other_part: bool,
    /// Whether this program had a finding before.
    pub is_known: bool,
}

/// What a file declares about a part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ElfClaim {
    /// Executable.
    Text,
    /// Not executable.
    NotText,
    /// That the loader writes to its text.
    Relocations,
    /// It is not a program, or its headers are not in memory.
    Unknown,
}

/// The surroundings of an area. Each question is asked only if its answer matters.
pub trait AreaContext {
    /// Whether each of its pages is in memory, as in a buffer in use and unlike in new memory.
    fn is_filled(&mut self) -> bool;
    /// Whether its process inherited it from its parent.
    fn is_inherited(&mut self) -> bool;
    /// Whether it is a part of a large reserved address space that is made accessible piece by
    /// piece.
    fn is_reserved(&mut self) -> bool;
    /// Whether a code generator that reserves no space is loaded.
    fn has_generator(&mut self) -> bool;
    /// Whether root alone could have put its program, and the code generator if one explains the
    /// change, where they are. Any user can write a program that looks like a runtime.
    fn is_of_root(&mut self) -> bool;
    /// What its file declares about it.
    fn file_says(&mut self) -> ElfClaim;
    /// Whether a mapped file wants an executable stack.
    fn wants_executable_stack(&mut self) -> bool;
}

/// The kinds of finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FindingKind {
    /// The stack became executable.
    Stack,
    /// The heap became executable.
    Heap,
    /// Memory that was written became executable.
    Written,
    /// Shared memory that was writable became executable.
    Shared,
    /// Text that was written to became executable again.
    Patched,
    /// A part of a file that is not declared as text became executable.
    Data,
    /// Memory that was executable lost that right.
    TakenBack,
    /// Text of a file lost the right.
    TextOpened,
    /// Memory that was written became executable as in a runtime, in a program that any user could
    /// have written.
    Claimed,
}

/// Why a change is not a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exemption {
    AskedFor,
    /// Nothing was ever written to it.
    Empty,
    /// It is other memory, mapped at the same place.
    MappedAnew,
    /// A fork inherited it; it was reported in the parent.
    Inherited,
    /// It is a part of a runtime's code cache.
    Reserved,
    /// A code generator is loaded.
    Generator,
    /// It contains what the file contains.
    FilesOwn,
    /// The loader wrote addresses into it.
    Relocated,
    /// It is inaccessible.
    Closed,
    /// The file does not declare it as text.
    NotText,
    /// As many findings of the program were reported as are for now, or more areas are around its
    /// changes than one scan checks.
    Enough,
    /// What the program claims was reported before.
    Claimed,
}

/// The rule's decision about a change: what is reported, or why nothing is.
pub type PermissionVerdict = Result<FindingKind, Exemption>;

/// Decides about a change.
pub fn judge(seen: &PermissionChange, around: &mut dyn AreaContext) -> PermissionVerdict {
    match seen.direction {
        PermissionDirection::Added => added(seen, around),
        PermissionDirection::Removed => removed(seen, around),
    }
}

fn added(seen: &PermissionChange, around: &mut dyn AreaContext) -> PermissionVerdict {
    match seen.backing {
        AreaKind::Stack if around.wants_executable_stack() => Err(Exemption::AskedFor),
        AreaKind::Stack => Ok(FindingKind::Stack),
        AreaKind::Heap if !seen.is_written => Err(Exemption::Empty),
        AreaKind::Heap => Ok(FindingKind::Heap),
        AreaKind::Anonymous => {
            if !seen.is_written {
                return Err(Exemption::Empty);
            }
            // Writable memory may have been written only since it became executable. Memory that is
            // not writable was written before.
            if seen.is_writable && !(seen.is_same && around.is_filled()) {
                return Err(Exemption::MappedAnew);
            }
            if !seen.preexisting && around.is_inherited() {
                return Err(Exemption::Inherited);
            }
            explained(runtime(around), FindingKind::Written, around)
        }
        AreaKind::Shared => {
            if !seen.was_writable {
                return Err(Exemption::FilesOwn);
            }
            explained(generator(around), FindingKind::Shared, around)
        }
        AreaKind::File => {
            if !seen.is_written {
                return Err(Exemption::FilesOwn);
            }
            match around.file_says() {
                ElfClaim::Relocations => Err(Exemption::Relocated),
                ElfClaim::Text | ElfClaim::Unknown if !seen.was_writable => {
                    Err(Exemption::FilesOwn)
                }
                ElfClaim::Text => Ok(FindingKind::Patched),
                ElfClaim::NotText | ElfClaim::Unknown => Ok(FindingKind::Data),
            }
        }
    }
}

fn removed(seen: &PermissionChange, around: &mut dyn AreaContext) -> PermissionVerdict {
    if !seen.is_open {
        return Err(Exemption::Closed);
    }
    match seen.backing {
        AreaKind::Stack => Ok(FindingKind::TakenBack),
        AreaKind::Heap | AreaKind::Anonymous => {
            if !seen.is_written {
                return Err(Exemption::Empty);
            }
            // Runtimes put data where code was, but a program that hid code once may do so again.
            if !seen.is_same || seen.is_writable && !seen.is_known {
                return Err(Exemption::MappedAnew);
            }
            runtime(around)?;
            Ok(FindingKind::TakenBack)
        }
        AreaKind::Shared => {
            generator(around)?;
            Ok(FindingKind::TakenBack)
        }
        // A loader maps a library whole, and its data over the end of that.
        AreaKind::File if seen.had_other_part => Err(Exemption::MappedAnew),
        AreaKind::File => match around.file_says() {
            ElfClaim::Text => Ok(FindingKind::TextOpened),
            ElfClaim::Relocations => Err(Exemption::Relocated),
            ElfClaim::NotText | ElfClaim::Unknown => Err(Exemption::NotText),
        },
    }
}

/// The verdict on memory that became executable: how a runtime explains it, or else `what`.
fn explained(
    by: Result<(), Exemption>,
    what: FindingKind,
    around: &mut dyn AreaContext,
) -> PermissionVerdict {
    match by {
        Ok(()) => Ok(what),
        Err(exemption) if around.is_of_root() => Err(exemption),
        Err(_) => Ok(FindingKind::Claimed),
    }
}

fn runtime(around: &mut dyn AreaContext) -> Result<(), Exemption> {
    if around.is_reserved() {
        return Err(Exemption::Reserved);
    }
    generator(around)
}

fn generator(around: &mut dyn AreaContext) -> Result<(), Exemption> {
    if around.has_generator() { Err(Exemption::Generator) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Surroundings with fixed answers. The defaults apply where a question must not be asked.
    #[derive(Clone, Copy)]
    #[expect(clippy::struct_excessive_bools, reason = "facts, each by itself")]
    struct Fake {
        filled: bool,
        inherited: bool,
        reserved: bool,
        generator: bool,
        says: ElfClaim,
        stack: bool,
        users: bool,
    }

    const NOTHING: Fake = Fake {
        filled: true,
        inherited: false,
        reserved: false,
        generator: false,
        says: ElfClaim::Unknown,
        stack: false,
        users: false,
    };

    impl AreaContext for Fake {
        fn is_filled(&mut self) -> bool {
            self.filled
        }
        fn is_inherited(&mut self) -> bool {
            self.inherited
        }
        fn is_reserved(&mut self) -> bool {
            self.reserved
        }
        fn has_generator(&mut self) -> bool {
            self.generator
        }
        fn is_of_root(&mut self) -> bool {
            !self.users
        }
        fn file_says(&mut self) -> ElfClaim {
            self.says
        }
        fn wants_executable_stack(&mut self) -> bool {
            self.stack
        }
    }

    /// A change as `rw-p>r-xp`, the area's kind and, by letter: `w` it has pages of its own, `s`
    /// the same as before, `o` another part of the file was there, `k` the program had a finding
    /// before. Nothing before `>`: it was not there.
    fn seen(backing: AreaKind, change: &str, pages: &str) -> PermissionChange {
        let (before, now) = change.split_once('>').unwrap();
        let direction = if now.contains('x') {
            PermissionDirection::Added
        } else {
            PermissionDirection::Removed
        };
        assert_ne!(before.contains('x'), now.contains('x'), "{change} changes nothing");
        PermissionChange {
            direction,
            backing,
            preexisting: !before.is_empty(),
            was_writable: before.contains('w'),
            is_writable: now.contains('w'),
            is_open: now.contains(['r', 'w', 'x']),
            is_written: pages.contains('w'),
            is_same: pages.contains('s'),
            had_other_part: pages.contains('o'),
            is_known: pages.contains('k'),
        }
    }

    #[test]
    fn the_rule_row_by_row() {
        use AreaKind::{Anonymous, File, Heap, Shared, Stack};
        use Exemption::{
            AskedFor, Closed, Empty, FilesOwn, Generator, Inherited, MappedAnew, NotText,
            Relocated, Reserved,
        };
        use FindingKind as Kind;
        use Result::{Err as Exempt, Ok as Report};
        let inherited = Fake { inherited: true, ..NOTHING };
        let reserved = Fake { reserved: true, ..NOTHING };
        let generator = Fake { generator: true, ..NOTHING };
        let of_user = |fake| Fake { users: true, ..fake };
        let says = |says| Fake { says, ..NOTHING };
        let rows: &[(&str, AreaKind, &str, &str, Fake, PermissionVerdict)] = &[
            ("mprotect of the stack", Stack, "rw-p>rwxp", "ws", NOTHING, Report(Kind::Stack)),
            (
                "a library of nested functions",
                Stack,
                "rw-p>rwxp",
                "ws",
                Fake { stack: true, ..NOTHING },
                Exempt(AskedFor),
            ),
            ("mprotect of the heap", Heap, "rw-p>rwxp", "ws", NOTHING, Report(Kind::Heap)),
            ("an empty heap", Heap, "rw-p>rwxp", "", NOTHING, Exempt(Empty)),
            ("shellcode", Anonymous, "rw-p>r-xp", "ws", NOTHING, Report(Kind::Written)),
            (
                "the same, written after the last scan",
                Anonymous,
                "rw-p>r-xp",
                "w",
                NOTHING,
                Report(Kind::Written),
            ),
            (
                "the same, all of it since the last scan",
                Anonymous,
                ">r-xp",
                "w",
                NOTHING,
                Report(Kind::Written),
            ),
            (
                "the same, and still writable",
                Anonymous,
                "rw-p>rwxp",
                "ws",
                NOTHING,
                Report(Kind::Written),
            ),
            (
                "code that was out of reach",
                Anonymous,
                "---p>r-xp",
                "ws",
                NOTHING,
                Report(Kind::Written),
            ),
            ("HotSpot's permission test", Anonymous, "-w-p>-wxp", "", NOTHING, Exempt(Empty)),
            (
                "HotSpot's code cache grows",
                Anonymous,
                "---p>rwxp",
                "w",
                NOTHING,
                Exempt(MappedAnew),
            ),
            (
                "PCRE's code where a buffer was",
                Anonymous,
                "rw-p>rwxp",
                "w",
                NOTHING,
                Exempt(MappedAnew),
            ),
            (
                "the same pages, not filled",
                Anonymous,
                "rw-p>rwxp",
                "ws",
                Fake { filled: false, ..NOTHING },
                Exempt(MappedAnew),
            ),
            ("a fork of a reported area", Anonymous, ">r-xp", "w", inherited, Exempt(Inherited)),
            ("V8's code range", Anonymous, "rw-p>rwxp", "ws", reserved, Exempt(Reserved)),
            ("V8's code range before 11", Anonymous, "rw-p>r-xp", "ws", reserved, Exempt(Reserved)),
            ("LuaJIT's machine code", Anonymous, "rw-p>r-xp", "ws", generator, Exempt(Generator)),
            // An implant that looks like a runtime.
            (
                "a user's program with 8 MiB around its code",
                Anonymous,
                "rw-p>r-xp",
                "ws",
                of_user(reserved),
                Report(Kind::Claimed),
            ),
            (
                "a user's program with the symbols of a code generator",
                Anonymous,
                ">r-xp",
                "w",
                of_user(generator),
                Report(Kind::Claimed),
            ),
            (
                "the same in shared memory",
                Shared,
                "rw-s>r-xs",
                "",
                of_user(generator),
                Report(Kind::Claimed),
            ),
            (
                "a user's program without either",
                Anonymous,
                "rw-p>r-xp",
                "ws",
                of_user(NOTHING),
                Report(Kind::Written),
            ),
            (
                "a user's runtime that writes code again",
                Anonymous,
                "r-xp>rw-p",
                "wsk",
                of_user(reserved),
                Exempt(Reserved),
            ),
            ("a memfd that was written", Shared, "rw-s>r-xs", "", NOTHING, Report(Kind::Shared)),
            ("the same in PHP's own", Shared, "rw-s>r-xs", "", generator, Exempt(Generator)),
            ("a file's content", Shared, "r--s>r-xs", "", NOTHING, Exempt(FilesOwn)),
            ("the loader's map of a library", File, "r--p>r-xp", "", NOTHING, Exempt(FilesOwn)),
            (
                "the same with a breakpoint in it",
                File,
                "r--p>r-xp",
                "w",
                says(ElfClaim::Text),
                Exempt(FilesOwn),
            ),
            (
                "a patch of text",
                File,
                "rw-p>r-xp",
                "ws",
                says(ElfClaim::Text),
                Report(Kind::Patched),
            ),
            (
                "text relocations",
                File,
                "rw-p>r-xp",
                "ws",
                says(ElfClaim::Relocations),
                Exempt(Relocated),
            ),
            (
                "code among data",
                File,
                "rw-p>rwxp",
                "ws",
                says(ElfClaim::NotText),
                Report(Kind::Data),
            ),
            (
                "code among data that is only read by now",
                File,
                "r--p>r-xp",
                "ws",
                says(ElfClaim::NotText),
                Report(Kind::Data),
            ),
            ("code in no program at all", File, "rw-p>r-xp", "ws", NOTHING, Report(Kind::Data)),
            (
                "a patch begins",
                File,
                "r-xp>rw-p",
                "",
                says(ElfClaim::Text),
                Report(Kind::TextOpened),
            ),
            (
                "text relocations begin",
                File,
                "r-xp>rw-p",
                "",
                says(ElfClaim::Relocations),
                Exempt(Relocated),
            ),
            (
                "data over the loader's first map, on a page that ends the text as well",
                File,
                "r-xp>rw-p",
                "o",
                says(ElfClaim::Text),
                Exempt(MappedAnew),
            ),
            ("the loader's gap", File, "r-xp>---p", "", says(ElfClaim::Text), Exempt(Closed)),
            (
                "data over the loader's first map",
                File,
                "r-xp>rw-p",
                "",
                says(ElfClaim::NotText),
                Exempt(NotText),
            ),
            ("a file without known headers", File, "r-xp>rw-p", "", NOTHING, Exempt(NotText)),
            ("code that hides", Anonymous, "r-xp>rw-p", "wsk", NOTHING, Report(Kind::TakenBack)),
            (
                "the same where no code was reported",
                Anonymous,
                "r-xp>rw-p",
                "ws",
                NOTHING,
                Exempt(MappedAnew),
            ),
            (
                "code that is only read any more",
                Anonymous,
                "rwxp>r--p",
                "ws",
                NOTHING,
                Report(Kind::TakenBack),
            ),
            (
                "a buffer where PCRE's code was",
                Anonymous,
                "rwxp>rw-p",
                "w",
                NOTHING,
                Exempt(MappedAnew),
            ),
            ("V8 lets a page go", Anonymous, "rwxp>---p", "ws", NOTHING, Exempt(Closed)),
            ("V8 writes code", Anonymous, "r-xp>rw-p", "wsk", reserved, Exempt(Reserved)),
            ("LuaJIT writes code", Anonymous, "r-xp>rw-p", "wsk", generator, Exempt(Generator)),
            ("what was never used", Anonymous, "r-xp>rw-p", "", NOTHING, Exempt(Empty)),
            ("the stack again", Stack, "rwxp>rw-p", "ws", NOTHING, Report(Kind::TakenBack)),
            ("shared code is written", Shared, "r-xs>rw-s", "", NOTHING, Report(Kind::TakenBack)),
        ];
        for &(name, backing, change, pages, mut around, expected) in rows {
            assert_eq!(judge(&seen(backing, change, pages), &mut around), expected, "{name}");
        }
    }
}
