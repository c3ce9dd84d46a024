//! Arguments and shell commands: what users type, with the secrets among it replaced
//! ([`crate::redact`]).
//!
//! Text is searched before it is cut to the length of a record: a cut would hide a secret's end
//! from a pattern, and show its beginning.

use core::ops::Range;

use super::clean::{copy_joined, copy_separated, separated_bytes};
use super::text::Text;
use super::{Full, JsonWriter};
use crate::redact::{REPLACEMENT, RedactedRanges};

/// A command line as in /proc/PID/cmdline: arguments that each end in NUL.
///
/// It is written twice, as one string joined by spaces and as the exact list. Only one NUL at the
/// very end is dropped, so empty arguments stay; an empty slice means no arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandLine<'a> {
    bytes: &'a [u8],
    cut: bool,
}

impl<'a> CommandLine<'a> {
    /// The complete command line.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: false }
    }

    /// The beginning of a longer command line: the record will have `truncated`.
    pub const fn cut(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: true }
    }

    /// What [`Self::arguments`] are places in.
    fn text(&self) -> &'a [u8] {
        self.bytes.strip_suffix(b"\0").unwrap_or(self.bytes)
    }

    /// The places of the arguments: start and end.
    fn arguments(&self) -> impl Iterator<Item = (usize, usize)> + use<'a> {
        // `split` yields one empty argument for an empty slice: right for a lone NUL, wrong for no
        // bytes.
        let count = if self.bytes.is_empty() { 0 } else { usize::MAX };
        let mut next = 0;
        self.text().split(|&byte| byte == 0).take(count).map(move |argument| {
            let start = next;
            next = start + argument.len() + 1;
            (start, start + argument.len())
        })
    }
}

/// A shell command, or a sentence that may quote arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandText<'a>(&'a [u8]);

impl<'a> From<&'a [u8]> for CommandText<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> From<&'a str> for CommandText<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl JsonWriter<'_> {
    /// The arguments joined by spaces, then `between`, then the exact list of arguments.
    #[expect(
        clippy::inline_always,
        reason = "the lengths of the keys are known only to the caller"
    )]
    #[inline(always)]
    pub fn command_line(
        &mut self,
        before: &str,
        line: &CommandLine<'_>,
        between: &str,
    ) -> Result<(), Full> {
        let is_whole = !line.cut && self.redactor.is_none();
        if is_whole && self.plain_arguments(before, line.text(), between) {
            return Ok(());
        }
        self.any_arguments(before, line, between)
    }

    /// Writes arguments whole that need neither escapes nor a cut. Returns whether they were such,
    /// and there was room enough; if not, nothing is written.
    #[expect(
        clippy::inline_always,
        reason = "the lengths of the keys are known only to the caller"
    )]
    #[inline(always)]
    fn plain_arguments(&mut self, before: &str, text: &[u8], between: &str) -> bool {
        let (start, limits) = (self.length, self.limits);
        let is_whole = text.len() <= limits.string_length && limits.list_bytes == usize::MAX;
        // Without text, there may be one argument or none.
        if text.is_empty() || !is_whole {
            return false;
        }
        if let Ok(room) = self.after_slice(before, text.len() + 2)
            && write_joined(room, text)
            && let Ok(room) = self.after_slice(between, list_room(text))
        {
            self.length -= room.len() - write_list(room, text);
            return true;
        }
        self.length = start;
        false
    }

    fn any_arguments(
        &mut self,
        before: &str,
        line: &CommandLine<'_>,
        between: &str,
    ) -> Result<(), Full> {
        let text = line.text();
        let hidden = self.hidden(text, line.cut);
        if line.cut {
            self.set_truncated();
        }
        self.shown(before, text, 0..text.len(), hidden.as_ref())?;
        self.raw(between.as_bytes())?;
        self.list(line.arguments(), |out, (start, end)| {
            out.shown(",", text, start..end, hidden.as_ref())
        })
    }

    /// A shell command, quoted, escaped and cut.
    pub fn command(&mut self, before: &str, command: &CommandText<'_>) -> Result<(), Full> {
        let text = command.0;
        // One byte more is read of commands than a record has.
        let is_cut = text.len() > self.limits().string_length;
        match self.hidden(text, is_cut) {
            None => self.text(before, &Text::new(text)),
            hidden => self.shown(before, text, 0..text.len(), hidden.as_ref()),
        }
    }

    /// Finds what is to be replaced in a text; `None` if nothing is in any text.
    fn hidden(&mut self, text: &[u8], is_cut: bool) -> Option<RedactedRanges> {
        self.redactor().map(|redactor| redactor.find(text, is_cut))
    }

    /// A part of a text, quoted, escaped and cut, with spaces between arguments.
    fn shown(
        &mut self,
        before: &str,
        text: &[u8],
        part: Range<usize>,
        hidden: Option<&RedactedRanges>,
    ) -> Result<(), Full> {
        self.raw(before.as_bytes())?;
        self.raw(b"\"")?;
        let mut at = part.start;
        let mut budget = Some(self.limits().string_length);
        for place in hidden.into_iter().flat_map(|hidden| hidden.within(part.clone())) {
            let Some(left) = budget else { break };
            budget = match self.visible(&text[at..place.start], left)? {
                Some(left) => self.escaped(REPLACEMENT.as_bytes(), left)?,
                None => None,
            };
            at = place.end;
        }
        if let Some(left) = budget {
            self.visible(&text[at..part.end], left)?;
        }
        self.raw(b"\"")
    }

    /// Arguments joined by spaces. Returns how much of `budget` is left, or `None` when they had to
    /// be cut.
    fn visible(&mut self, text: &[u8], mut budget: usize) -> Result<Option<usize>, Full> {
        for (index, argument) in text.split(|&byte| byte == 0).enumerate() {
            if index > 0 {
                if budget == 0 {
                    self.set_truncated();
                    return Ok(None);
                }
                self.raw(b" ")?;
                budget -= 1;
            }
            match self.escaped(argument, budget)? {
                Some(left) => budget = left,
                None => return Ok(None),
            }
        }
        Ok(Some(budget))
    }
}

/// Writes arguments as one string. Returns whether no byte of them needs care.
fn write_joined(room: &mut [u8], text: &[u8]) -> bool {
    let [first, room @ .., last] = room else { return false };
    (*first, *last) = (b'"', b'"');
    copy_joined(text, room)
}

/// Room for the list of arguments.
const fn list_room(text: &[u8]) -> usize {
    separated_bytes(text.len()) + 4
}

/// Writes the list of arguments and returns its length. What follows it is undefined.
fn write_list(room: &mut [u8], text: &[u8]) -> usize {
    let (open, room) = room.split_at_mut(2);
    open.copy_from_slice(b"[\"");
    let length = copy_separated(text, room);
    room[length..length + 2].copy_from_slice(b"\"]");
    length + 4
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::json::time::Day;
    use crate::json::{Limits, fit_redacted};
    use crate::redact::{Pattern, Redactor};

    fn written(
        patterns: &[&str],
        string_length: usize,
        write: impl FnMut(&mut JsonWriter<'_>) -> Result<(), Full>,
    ) -> String {
        let compiled = patterns.iter().map(|pattern| Arc::new(Pattern::new(pattern).unwrap()));
        let mut redactor = Redactor::new(&compiled.collect::<Vec<_>>());
        let mut out = [0; 512];
        let limits = Limits::new(string_length);
        let length =
            fit_redacted(&mut out, limits, 0, redactor.as_mut(), &mut Day::default(), write)
                .unwrap();
        std::str::from_utf8(&out[..length]).unwrap().to_owned()
    }

    #[track_caller]
    fn check(patterns: &[&str], line: CommandLine<'_>, expected: &str) {
        let json = written(patterns, 64, |out| out.command_line("", &line, " | "));
        assert_eq!(json, expected, "{line:?}");
    }

    #[test]
    fn command_lines_are_split_as_proc_has_them() {
        let check = |bytes, expected| check(&[], CommandLine::new(bytes), expected);
        check(b"bash\0-i\0", r#""bash -i" | ["bash","-i"]"#);
        check(b"bash\0-c\0\0", r#""bash -c " | ["bash","-c",""]"#);
        check(b"nginx: worker", r#""nginx: worker" | ["nginx: worker"]"#);
        check(b"", r#""" | []"#);
        check(b"\0", r#""" | [""]"#);
    }

    #[test]
    fn what_a_pattern_matches_is_replaced_in_the_string_and_in_the_list() {
        let check = |pattern, line, expected| check(&[pattern], CommandLine::new(line), expected);
        let whole = "--password[= ][^ ]+";
        check(whole, b"a\0--password=b\0c\0", r#""a *** c" | ["a","***","c"]"#);
        check(whole, b"a\0--password\0b\0c\0", r#""a *** c" | ["a","***","***","c"]"#);
        let group = "--password[= ]([^ ]+)";
        check(
            group,
            b"a\0--password=b\0c\0",
            r#""a --password=*** c" | ["a","--password=***","c"]"#,
        );
        let expected = r#""a --password *** c" | ["a","--password","***","c"]"#;
        check(group, b"a\0--password\0b\0c\0", expected);
        check(group, b"a\0--password\0", r#""a --password" | ["a","--password"]"#);
        check("x", b"", r#""" | []"#);
        check("x", b"\0x\0\0", r#"" *** " | ["","***",""]"#);
    }

    #[test]
    fn arguments_are_cut_after_secrets_are_replaced() {
        let line = CommandLine::new(b"app\0key=0123456789\0");
        let json =
            |length| written(&["key=([0-9]{10})"], length, |out| out.command_line("", &line, "|"));
        assert_eq!(json(64), r#""app key=***"|["app","key=***"]"#);
        for length in 0..14 {
            assert!(!json(length).contains(|one: char| one.is_ascii_digit()), "{length}");
        }
    }

    #[test]
    fn the_beginning_of_a_secret_is_replaced_where_the_rest_was_not_read() {
        let key = "AKIA[0-9A-Z]{16}";
        let line = b"aws\0AKIA0123456";
        check(&[key], CommandLine::new(line), r#""aws AKIA0123456" | ["aws","AKIA0123456"]"#);
        check(&[key], CommandLine::cut(line), r#""aws ***" | ["aws","***"]"#);
        // A match that the rest could make longer.
        let key = "key=[0-9]{4}(?:-[0-9]{4})?";
        check(&[key], CommandLine::cut(b"key=0123-45"), r#""***" | ["***"]"#);
    }

    #[test]
    fn commands_and_what_quotes_arguments_have_their_secrets_replaced() {
        let command = |length| {
            let text = CommandText::from("curl -u me:secret http://a");
            written(&["-u [^ :]+:([^ ]+)", "http"], length, |out| out.command("", &text))
        };
        assert_eq!(command(64), r#""curl -u me:*** ***://a""#);
        assert_eq!(command(12), r#""curl -u me:*""#);
        let plain = written(&[], 12, |out| out.command("", &"curl -u me:secret".into()));
        assert_eq!(plain, r#""curl -u me:s""#);
    }
}
