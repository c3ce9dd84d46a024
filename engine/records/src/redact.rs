//! Finds what the configuration's patterns match in arguments and shell commands, so that records
//! have [`REPLACEMENT`] in its place.
//!
//! Patterns are from the configuration and are trusted. What they match is chosen by users of the
//! watched machines. So each pattern is made into automata when the configuration is read
//! ([`Pattern::new`]); a search allocates nothing and takes time in proportion to the text.
//!
//! A command line is searched as one text, with a space between arguments. It is searched whole,
//! before it is cut to the length of a record. Of a text whose end was not read, what may be the
//! beginning of a match is replaced, too. In doubt, more is replaced.
//!
//! Not here: writing the text (`json/command_line.rs`). Start reading at [`Redactor::find`].

use core::fmt;
use core::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use regex_automata::dfa::onepass::{Cache, DFA as OnePass};
use regex_automata::dfa::regex::Regex;
use regex_automata::dfa::{Automaton, StartKind, dense, onepass};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, HirKind};

/// What a record has in place of what a pattern matches.
pub const REPLACEMENT: &str = "***";

/// Maximum number of patterns.
pub const PATTERNS_MAX: usize = 64;
/// Bytes of memory that each automaton of a pattern may take.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;
/// Maximum number of groups of a pattern.
const GROUPS_MAX: usize = 8;
/// Maximum number of matches of a pattern in a text. After the last of them, all is replaced.
const MATCHES_MAX: usize = 32;
/// Maximum number of separate places in a text. If there are more, the whole text is replaced.
const REDACTIONS_MAX: usize = 64;
/// Number of bytes of a text that are searched: more than any command line has (16 KiB of it are
/// read, or the 4 KiB of a title). What follows is replaced.
pub const TEXT_BYTES_MAX: usize = 20 << 10;
/// How often a text may be read in the search for the beginning of a match at its end.
const READS_MAX: usize = 8;

/// Why a pattern is refused; the message completes "`pattern` …".
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    #[error("is not a regular expression: {0}")]
    Syntax(Box<str>),
    #[error("can match no text at all, so it would match everywhere; write + in place of *")]
    Empty,
    #[error("repeats a group, and only its last text could be replaced; write ((?:…)+)")]
    Repeated,
    #[error("has {0} groups; at most {GROUPS_MAX} are possible; write (?:…) for what is no secret")]
    Groups(usize),
    #[error(
        "is too large: its automaton needs more than 1 MiB; repeat fewer times, or write + in \
         place of {{1,1000}}"
    )]
    TooLarge,
    #[error(
        "has a group with an ambiguous beginning or end; what follows a repetition must differ \
         from what is repeated, as in --password=([^ ]+)"
    )]
    Ambiguous,
}

/// A pattern of the configuration: a regular expression over bytes.
pub struct Pattern {
    text: Box<str>,
    whole: Regex,
    /// Finds the groups in a match; `None` if the pattern has none.
    groups: Option<OnePass>,
}

/// Patterns, with the memory that searching needs. Each writer of records has its own.
#[derive(Clone, Debug)]
pub struct Redactor {
    /// Each with what the search for its groups needs.
    patterns: Box<[(Arc<Pattern>, Option<Cache>)]>,
    /// The text that is searched.
    text: Vec<u8>,
}

/// The places of a text that are replaced, in ascending order. They neither overlap nor touch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RedactedRanges {
    places: ArrayVec<Range<usize>, REDACTIONS_MAX>,
    length: usize,
}

impl Pattern {
    /// Compiles a pattern, which takes some milliseconds if it is large.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        // Text of a watched machine is bytes: `.` and classes match each of them.
        let syntax = syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true);
        let nfa = thompson::Config::new().utf8(false).nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let parsed = syntax::parse_with(text, &syntax).map_err(|error| {
            // The lines before the last one show the place in the pattern.
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default();
            PatternError::Syntax(last.strip_prefix("error: ").unwrap_or(last).into())
        })?;
        let properties = parsed.properties();
        if properties.minimum_len() == Some(0) {
            return Err(PatternError::Empty);
        }
        let count = properties.explicit_captures_len();
        if count > GROUPS_MAX {
            return Err(PatternError::Groups(count));
        }
        if repeats_group(&parsed) {
            return Err(PatternError::Repeated);
        }
        let dense = dense::Config::new()
            .start_kind(StartKind::Both)
            .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
            .determinize_size_limit(Some(4 * AUTOMATON_BYTES_MAX));
        let mut whole = Regex::builder();
        let whole = whole.syntax(syntax).thompson(nfa.clone()).dense(dense);
        let whole = whole.build(text).map_err(|_| PatternError::TooLarge)?;
        let groups = (count > 0).then(|| {
            let config = onepass::Config::new().size_limit(Some(AUTOMATON_BYTES_MAX));
            let mut groups = OnePass::builder();
            let groups = groups.configure(config).syntax(syntax).thompson(nfa).build(text);
            // Its automaton for the whole was small enough.
            groups.map_err(|_| PatternError::Ambiguous)
        });
        Ok(Self { text: text.into(), whole, groups: groups.transpose()? })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds what is replaced in a text. `is_torn`: the text has a continuation that is not known.
    fn find(
        &self,
        text: &[u8],
        is_torn: bool,
        cache: Option<&mut Cache>,
        hidden: &mut RedactedRanges,
    ) {
        let mut cache = cache;
        let mut at = 0;
        for _ in 0..MATCHES_MAX {
            let Ok(found) = self.whole.try_search(&Input::new(text).range(at..)) else { break };
            let Some(found) = found else {
                if let Some(start) = self.torn(text).filter(|_| is_torn) {
                    hidden.add(start..text.len());
                }
                return;
            };
            self.hide(text, found.range(), cache.as_deref_mut(), hidden);
            at = found.end();
        }
        hidden.add(at..text.len());
    }

    /// Adds the groups of a match, or all of it if it has none.
    fn hide(
        &self,
        text: &[u8],
        found: Range<usize>,
        cache: Option<&mut Cache>,
        hidden: &mut RedactedRanges,
    ) {
        let Some((groups, cache)) = self.groups.as_ref().zip(cache) else {
            return hidden.add(found);
        };
        let input = Input::new(text).range(found.clone()).anchored(Anchored::Yes);
        let mut slots = [None; 2 * (1 + GROUPS_MAX)];
        let is_found = groups.try_search_slots(cache, &input, &mut slots);
        let (pairs, _) = slots.as_chunks::<2>();
        let places =
            pairs.iter().skip(1).filter_map(|&[start, end]| Some(start?.get()..end?.get()));
        if !matches!(is_found, Ok(Some(_))) || places.clone().next().is_none() {
            return hidden.add(found);
        }
        places.for_each(|place| hidden.add(place));
    }

    /// Where the first match begins that the rest of a text could complete, or make longer.
    fn torn(&self, text: &[u8]) -> Option<usize> {
        let automaton = self.whole.forward();
        let mut left = READS_MAX * text.len();
        (0..text.len()).find(|&start| {
            let input = Input::new(text).range(start..).anchored(Anchored::Yes);
            let Ok(mut state) = automaton.start_state_forward(&input) else { return true };
            for &byte in &text[start..] {
                if left == 0 {
                    return true;
                }
                left -= 1;
                state = automaton.next_state(state, byte);
                if automaton.is_dead_state(state) {
                    return false;
                }
            }
            true
        })
    }
}

/// Whether a pattern repeats one of its groups. A match has only the last text of such a group.
fn repeats_group(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            let groups = repetition.sub.properties().explicit_captures_len();
            most > 1 && groups > 0 || repeats_group(&repetition.sub)
        }
        HirKind::Capture(capture) => repeats_group(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(repeats_group),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without its automata.
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl Redactor {
    /// Allocates what searching needs; `None` if there are no patterns.
    pub fn new(patterns: &[Arc<Pattern>]) -> Option<Self> {
        let with_cache = |pattern: &Arc<Pattern>| {
            (Arc::clone(pattern), pattern.groups.as_ref().map(OnePass::create_cache))
        };
        (!patterns.is_empty()).then(|| Self {
            patterns: patterns.iter().map(with_cache).collect(),
            text: Vec::with_capacity(TEXT_BYTES_MAX),
        })
    }

    /// Finds what is to be replaced in arguments that are separated by NUL, or in a command.
    /// `is_torn`: the text has a continuation that is not known.
    pub(crate) fn find(&mut self, text: &[u8], is_torn: bool) -> RedactedRanges {
        let mut hidden = RedactedRanges { places: ArrayVec::new(), length: text.len() };
        let searched = text.get(..TEXT_BYTES_MAX).unwrap_or(text);
        self.text.clear();
        self.text.extend(searched.iter().map(|&byte| if byte == 0 { b' ' } else { byte }));
        for (pattern, cache) in &mut self.patterns {
            pattern.find(&self.text, is_torn, cache.as_mut(), &mut hidden);
        }
        hidden.add(searched.len()..text.len());
        hidden
    }
}

impl RedactedRanges {
    /// The places in a part of the text.
    pub(crate) fn within(&self, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let clip = move |place: &Range<usize>| place.start.max(part.start)..place.end.min(part.end);
        self.places.iter().map(clip).filter(|place| !place.is_empty())
    }

    fn add(&mut self, mut place: Range<usize>) {
        if place.is_empty() {
            return;
        }
        // Those that overlap or touch it.
        let first = self.places.partition_point(|other| other.end < place.start);
        let end = self.places.partition_point(|other| other.start <= place.end);
        for other in self.places.drain(first..end.max(first)) {
            place = place.start.min(other.start)..place.end.max(other.end);
        }
        if self.places.is_full() {
            self.places.clear();
            self.places.push(0..self.length);
        } else {
            self.places.insert(first, place);
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a list of one place")]
mod tests {
    use super::*;

    fn redactor(patterns: &[&str]) -> Redactor {
        let compiled = patterns.iter().map(|pattern| Arc::new(Pattern::new(pattern).unwrap()));
        Redactor::new(&compiled.collect::<Vec<_>>()).unwrap()
    }

    fn refused(pattern: &str) -> String {
        Pattern::new(pattern).unwrap_err().to_string()
    }

    #[test]
    fn patterns_that_cannot_be_used_are_refused_with_a_reason() {
        let syntax = "is not a regular expression: unclosed group";
        assert_eq!(refused("a(b"), syntax);
        assert!(refused(r"(a)\1").starts_with("is not a regular expression: backreferences"));
        assert!(refused("(?<!a)b").starts_with("is not a regular expression: look-around"));
        for pattern in ["", "a*", "^", "(a|)"] {
            assert!(refused(pattern).starts_with("can match no text"), "{pattern}");
        }
        for pattern in ["k=(?:(a),)+", "((a)b){2}", "x|(a){1,3}", "(a)*b"] {
            assert!(refused(pattern).starts_with("repeats a group"), "{pattern}");
        }
        assert!(refused("(a)(a)(a)(a)(a)(a)(a)(a)(a)").starts_with("has 9 groups"));
        assert!(refused("[ab]{1,1000}c{1000}[^x]{1000}").starts_with("is too large"));
        assert!(refused("[01]*1[01]{20}").starts_with("is too large"));
        assert!(refused("(a+)(a+)").starts_with("has a group with an ambiguous"));
    }

    #[track_caller]
    fn check(patterns: &[&str], text: &str, expected: &[Range<usize>]) {
        let hidden = redactor(patterns).find(text.as_bytes(), false);
        assert_eq!(hidden.places[..], *expected, "{text}");
    }

    #[test]
    fn each_pattern_is_searched_for_itself() {
        // The first one matches a part of what the second one matches.
        check(&["token", "token=[a-z]+"], "a token=b", &[2..9]);
        check(&["[a-z]+=([0-9]+)", "b"], "a=1 b=22", &[2..3, 4..5, 6..8]);
        check(&["ab", "cd"], "abcd", &[0..4]);
        check(&["(?i)PassWord=(.+)"], "password=a b", &[9..12]);
        check(&[r"\bkey\b"], "key keys", &[0..3]);
        check(&["(a)|b"], "ab", &[0..2]);
        check(&["k=((?:a,)+)", "b(c)?"], "k=a,a, b bc", &[2..6, 7..8, 10..11]);
        check(&["(?i)key=.+"], "key=a\nb", &[0..7]);
    }

    #[test]
    fn bytes_that_are_no_text_match_as_others() {
        let mut redactor = redactor(&["key=.+"]);
        let hidden = redactor.find(b"\xffkey=\xfe\x80", false);
        assert_eq!(hidden.places[..], [1..7]);
    }

    #[test]
    fn a_match_that_the_rest_would_make_longer_is_replaced_to_the_end() {
        for (text, is_torn, expected) in
            [(&b"ab c"[..], false, &[0..1, 3..4][..]), (b"ab c", true, &[0..4])]
        {
            let hidden = redactor(&["a(?:b.*z)?|c"]).find(text, is_torn);
            assert_eq!(hidden.places[..], *expected);
        }
    }

    #[test]
    fn what_is_too_much_to_search_is_replaced_whole() {
        let mut redactor = redactor(&["a"]);
        let text = "ab".repeat(2 * MATCHES_MAX);
        let hidden = redactor.find(text.as_bytes(), false);
        let last = 2 * (MATCHES_MAX - 1)..text.len();
        assert_eq!((hidden.places.len(), hidden.places.last()), (MATCHES_MAX, Some(&last)));
        let text = "abcdef".repeat(MATCHES_MAX - 1);
        let all = [0..text.len()];
        check(&["a", "c", "e"], &text, &all);
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        check(&["b"], &long, &[TEXT_BYTES_MAX..TEXT_BYTES_MAX + 1]);
    }

    /// A text in which nearly each place begins what may be a match, and none is one.
    #[test]
    fn a_hostile_text_costs_time_in_proportion_to_its_length() {
        let mut redactor = redactor(&["a.*b|c", "a[^b]+b"]);
        for text in ["ac".repeat(8000), "a".repeat(16_000)] {
            for is_torn in [false, true] {
                let hidden = redactor.find(text.as_bytes(), is_torn);
                let end = hidden.places.last().map(|place| place.end);
                assert!(end.is_none_or(|end| end == text.len()));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn places_are_joined_and_in_order(
            all in proptest::collection::vec((0_usize..90, 0_usize..9), 0..40),
        ) {
            let mut hidden = RedactedRanges { places: ArrayVec::new(), length: 100 };
            let mut expected = [false; 100];
            for (start, length) in all {
                hidden.add(start..start + length);
                expected[start..start + length].fill(true);
            }
            let mut found = [false; 100];
            for place in &hidden.places {
                found[place.clone()].fill(true);
            }
            proptest::prop_assert_eq!(found, expected);
            proptest::prop_assert!(hidden.places.is_sorted_by(|one, next| one.end < next.start));
        }
    }
}
